"""Makes `--policy rspamd` known."""

from mailsrv import PolicyPlugin

rspamd = PolicyPlugin("rspamd", "rspamdpolicy.Rspamd")
