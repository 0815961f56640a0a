"""Makes `--policy rspamd` known."""

from mailsrv.plugins import PolicyPlugin

rspamd = PolicyPlugin("rspamd", "rspamdpolicy.Rspamd")
