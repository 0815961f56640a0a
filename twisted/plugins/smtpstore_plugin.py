"""The twistd plugin: `twistd smtpstore`."""

from twisted.application.service import ServiceMaker

smtpstore = ServiceMaker(
    "smtpstore",
    "mailsrv.service",
    "An SMTP server: what it answers 250 is committed in your database.",
    "smtpstore",
)
