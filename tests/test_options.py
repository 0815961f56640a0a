"""Options: three sources, one table, typed values, and one line where a value will not do."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailsrv.extensions.starttls import TlsPolicy
from mailsrv.interfaces import Limits
from mailsrv.kinds import Named
from mailsrv.options import Options
from mailsrv.ports import Port
from mailsrv.remote import Remote
from mailsrv.server.site import Listener
from mailsrv.settings import OptionError, Settings, readSettings
from mailsrv.table import OPTIONS


def read(*args: str, env: Mapping[str, str] | None = None) -> Settings:
    """The settings of a command line in the form of `name=value`."""
    given: dict[str, list[str]] = {}
    for arg in args:
        name, _, value = arg.partition("=")
        given.setdefault(name, []).append(value)
    return readSettings(given, env or {})[0]


def endpoints(settings: Settings) -> tuple[str, ...]:
    return tuple(port.endpoint for port in settings.ports)


def complaint(*args: str, env: Mapping[str, str] | None = None) -> str:
    with pytest.raises(OptionError) as caught:
        read(*args, env=env)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "smtpstore.toml"


# Defaults


def test_with_nothing_said_it_is_a_sink_on_loopback() -> None:
    settings = read("hostname=mx.example.com")
    assert settings == Settings(
        ports=(Port("port", "SMTP", "tcp:2525:interface=127.0.0.1:backlog=1024", Listener()),),
        db="sqlite:smtpstore.db",
        domains=(),
        hostname="mx.example.com",
        limits=Limits(),
        maxConnections=1000,
        maxConnectionsPerClient=0,
        allowVrfy=True,
        allowExpn=True,
        dbTimeout=30.0,
        relayClients=(),
        spool=None,
        spoolMemory=256 * 2**20,
        spoolDisk=4 * 2**30,
        requireDurable=False,
        workers=1,
        http=None,
        smartHost=None,
        webhooks=(),
        webhookSecrets=(),
        ownSenders=False,
        extensions=(),
        policies=(),
        tlsCert=None,
        tlsKey=None,
        tlsAuto=False,
        requireTls=False,
        authInsecure=False,
    )


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("MX.example.com", "mx.example.com"),
        ("box", "box"),
        ("not a domain!", "localhost"),
        ("", "localhost"),
    ],
)
def test_the_hostname_is_the_machines_where_it_is_a_domain(
    monkeypatch: pytest.MonkeyPatch, machine: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    assert read().hostname == name


# Values


@pytest.mark.parametrize(
    ("said", "field", "value"),
    [
        ("max-connections=5", "maxConnections", 5),
        ("max-connections-per-client=3", "maxConnectionsPerClient", 3),
        ("db-timeout=2.5", "dbTimeout", 2.5),
        ("no-vrfy=true", "allowVrfy", False),
        ("no-expn=true", "allowExpn", False),
        ("spool=/var/spool/mail", "spool", "/var/spool/mail"),
        ("spool-memory=0", "spoolMemory", 0),
        ("spool-disk=7", "spoolDisk", 7),
        ("require-durable=true", "requireDurable", True),
        ("db=sqlite:/srv/a,b.db", "db", "sqlite:/srv/a,b.db"),
        ("hostname=Büro.example", "hostname", "xn--bro-hoa.example"),
        ("domain=Example.COM", "domains", ("example.com",)),
        ("relay-client=192.0.2.0/24", "relayClients", (ipaddress.ip_network("192.0.2.0/24"),)),
        ("relay-client=2001:db8::1", "relayClients", (ipaddress.ip_network("2001:db8::1/128"),)),
        ("login-senders=own", "ownSenders", True),
        ("auth-insecure=true", "authInsecure", True),
        ("tls=auto", "tlsAuto", True),
        ("extension=xticket", "extensions", (Named("xticket", {}),)),
        (
            r"policy=rspamd:url=http\://127.0.0.1:max-score=15",
            "policies",
            (Named("rspamd", {"url": "http://127.0.0.1", "max-score": "15"}),),
        ),
        ("max-size=1000", "limits", Limits(maxSize=1000)),
        ("max-recipients=1", "limits", Limits(maxRecipients=1)),
        ("max-line=0", "limits", Limits(maxLine=0)),
        ("bare-newlines=accept", "limits", Limits(acceptBareNewlines=True)),
        ("timeout=60", "limits", Limits(timeout=60.0)),
    ],
)
def test_a_value_arrives_typed(said: str, field: str, value: object) -> None:
    assert getattr(read(said), field) == value


def test_bare_ports_listen_on_the_interface_and_endpoints_where_they_say() -> None:
    settings = read("port=25", "port=tcp:26", "interface=0.0.0.0")
    assert endpoints(settings) == ("tcp:25:interface=0.0.0.0:backlog=1024", "tcp:26:backlog=1024")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("port=", "nothing to listen on: give --port, "),
        ("smtps=465", "--smtps needs a certificate: give --tls-cert and --tls-key, or --tls auto"),
        ("submission=587", "--submission needs a certificate: "),
        ("submission=587", "or --auth-insecure on loopback"),
        ("require-tls=true", "--require-tls needs a certificate: "),
        ("tls-cert=c.pem", "--tls-cert and --tls-key go together: give both"),
        ("tls-key=k.pem", "--tls-cert and --tls-key go together: give both"),
    ],
)
def test_what_does_not_go_together_is_said_with_the_way_out(said: str, says: str) -> None:
    assert says in complaint(said)


def test_each_kind_of_listener_has_its_manners() -> None:
    settings = read(
        "port=", "submission=haproxy:587", "smtps=haproxy:tcp:465", "lmtp=unix:/run/l", "tls=auto"
    )
    assert settings.ports == (
        Port(
            "submission",
            "Submission",
            "tcp:587:interface=127.0.0.1:backlog=1024",
            Listener(isSubmission=True, isProxied=True),
        ),
        Port("smtps", "SMTPS", "tcp:465:backlog=1024", Listener(isSecure=True, isProxied=True)),
        Port("lmtp", "LMTP", "unix:/run/l:mode=660:lockfile=0", Listener(isLmtp=True)),
    )


def test_the_mode_of_a_unix_socket_may_be_said() -> None:
    assert endpoints(read("port=unix:/run/s:mode=666")) == ("unix:/run/s:mode=666:lockfile=0",)


def test_a_submission_needs_a_certificate_or_the_word_that_it_goes_without() -> None:
    for said in (["tls=auto"], ["tls-cert=c", "tls-key=k"], ["auth-insecure=true"]):
        assert read("submission=587", *said).ports[1].option == "submission"
    assert "give one" in complaint("tls=auto", "tls-cert=c", "tls-key=k")


def test_an_ipv6_interface_is_quoted_for_the_endpoint() -> None:
    assert endpoints(read("interface=::1")) == (r"tcp:2525:interface=\:\:1:backlog=1024",)


def test_a_domain_said_twice_is_one() -> None:
    assert read("domain=example.com", "domain=EXAMPLE.com").domains == ("example.com",)


def test_of_an_option_that_is_not_repeatable_the_last_word_counts() -> None:
    assert read("max-connections=1", "max-connections=2").maxConnections == 2


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("max-size=0", "whole number of 1 or more"),
        ("max-size=-1", "whole number"),
        ("max-size=1_000", "whole number"),
        ("max-size=50M", "whole number"),
        ("max-line=²", "whole number"),
        ("timeout=0", "seconds above 0"),
        ("timeout=nan", "seconds above 0"),
        ("db-timeout=inf", "seconds above 0"),
        ("db-timeout=soon", "seconds above 0"),
        ("bare-newlines=maybe", "reject, accept"),
        ("port=smtp", "neither a port number"),
        ("port=ssl:465", "for TLS from the first octet give a port or tcp:… to --smtps"),
        ("port=haproxy:ssl:465", "to --smtps"),
        ("tls=on", "'on' is not one of: auto"),
        ("policy=", "'' is not NAME or NAME:key=value"),
        ("policy=a:b", "'a:b' is not NAME or NAME:key=value"),
        ("policy=a:=b", "'a:=b' is not NAME or NAME:key=value"),
        ("port=65536", "neither a port number"),
        ("interface=eth0", "not an IP address"),
        ("domain=exa mple", "not a domain"),
        ("domain=", "not a domain"),
        ("hostname=under score", "not a domain"),
        ("relay-client=192.0.2.1/24", "an address in the network 192.0.2.0/24"),
        ("spool=", "empty"),
        ("db=mail.db", "sqlite:PATH"),
        ("db=sqlite:", "sqlite:PATH"),
    ],
)
def test_a_wrong_value_is_named_with_its_option_and_the_way_out(said: str, says: str) -> None:
    text = complaint(said)
    assert text.startswith(f"--{said.partition('=')[0]}: ")
    assert says in text


def test_a_password_in_a_wrong_url_is_not_repeated() -> None:
    assert "secret" not in complaint("db=postgres://mail:secret@db/mail")


def test_a_password_in_the_url_is_not_in_the_settings_text() -> None:
    assert "hidden.db" not in repr(read("db=sqlite:hidden.db"))


# Where mail and events go


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("smtp://relay.example", Remote("relay.example", 25)),
        ("smtp://relay.example:2525/", Remote("relay.example", 2525)),
        ("smtp://[2001:db8::1]", Remote("2001:db8::1", 25)),
        ("smtp://192.0.2.1:26", Remote("192.0.2.1", 26)),
        ("smtps://relay.example", Remote("relay.example", 465, isSecure=True)),
        (
            "smtp://me%40a.example:p%3A%2F@w%23d@relay.example",
            Remote("relay.example", 587, ("me@a.example", "p:/@w#d"), tls=TlsPolicy.VERIFIED),
        ),
        (
            "smtps://me:word@relay.example:99",
            Remote("relay.example", 99, ("me", "word"), True, TlsPolicy.VERIFIED),
        ),
    ],
)
def test_a_smart_host_is_a_url(url: str, remote: Remote) -> None:
    assert read(f"smart-host={url}").smartHost == remote
    assert read(env={"SMTPSTORE_SMART_HOST": url}).smartHost == remote


@pytest.mark.parametrize(
    "url",
    [
        "relay.example:587",
        "http://relay.example",
        "smtp://",
        "smtp://me:secret@",
        "smtp://me:secret@relay.example:0",
        "smtp://me:secret@relay.example:70000",
        "smtp://me:secret@relay.example:x",
        "smtp://me:secret@relay.example/path",
        "smtp://me:secret@relay.example?a=b",
        "smtp://me:secret@relay.example#x",
        "smtp://me:secret#rest@relay.example",
        "smtp://me:secret%FF@relay.example",
        "smtp://me:secret%00@relay.example",
        "smtp://:secret@relay.example",
        "smtp://secret@relay.example",
        "smtp://me:secret@[relay.example",
        "smtp://me:secret@rela y.example",
    ],
)
def test_a_wrong_smart_host_is_one_line_without_the_password(url: str) -> None:
    line = complaint(f"smart-host={url}")
    assert line.startswith("--smart-host: ")
    assert "smtp://user:password@host:587" in line
    assert "secret" not in line


def test_the_password_of_a_smart_host_is_not_in_the_settings_text() -> None:
    settings = read("smart-host=smtp://me:hidden@relay.example")
    assert "hidden" not in repr(settings)
    assert str(settings.smartHost) == "relay.example:587"
    assert str(Remote("2001:db8::1", 25)) == "[2001:db8::1]:25"


SECRET = "whsec_" + "QUFB" * 8


def test_webhooks_are_several_and_signed_with_what_the_environment_says() -> None:
    env = {
        "SMTPSTORE_WEBHOOK": "https://me:hidden@a.example/x#raw,http://b.example",
        "SMTPSTORE_WEBHOOK_SECRET": SECRET,
    }
    settings = read(env=env)
    assert [webhook.url for webhook in settings.webhooks] == [
        "https://a.example/x",
        "http://b.example/",
    ]
    assert settings.webhookSecrets == (b"AAA" * 8,)
    assert "hidden" not in repr(settings)
    assert "AAA" not in repr(settings)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["webhook=app.example"], "--webhook: it is not a URL such as https://"),
        (["webhook=http://a/#raw", "webhook=http://a"], "--webhook: the same URL twice"),
    ],
)
def test_wrong_webhooks_say_so(said: list[str], says: str) -> None:
    assert says in complaint(*said)


def test_a_wrong_secret_is_not_repeated_and_matters_only_to_webhooks() -> None:
    env = {"SMTPSTORE_WEBHOOK_SECRET": "hush"}
    assert read(env=env).webhookSecrets == ()
    line = complaint("webhook=http://a", env=env)
    assert "SMTPSTORE_WEBHOOK_SECRET" in line
    assert "hush" not in line


# Metrics


@pytest.mark.parametrize(
    ("said", "endpoint"),
    [
        (["http=8025"], "tcp:8025:interface=127.0.0.1:backlog=1024"),
        (["http=8025", "interface=::1"], r"tcp:8025:interface=\:\:1:backlog=1024"),
        (["http=unix:/run/metrics"], "unix:/run/metrics:mode=660:lockfile=0"),
        (["http="], None),
        ([], None),
    ],
)
def test_metrics_are_where_they_are_asked_for_and_else_nowhere(
    said: list[str], endpoint: str | None
) -> None:
    assert read(*said).http == endpoint


# The environment


def test_the_environment_says_the_same() -> None:
    environ = {
        "SMTPSTORE_DB": "sqlite:a,b.db",
        "SMTPSTORE_DOMAIN": "example.com, example.org,",
        "SMTPSTORE_PORT": "25,tcp6:26",
        "SMTPSTORE_NO_VRFY": "yes",
        "SMTPSTORE_NO_EXPN": "0",
        "SMTPSTORE_MAX_SIZE": " 5 ",
        "SMTPSTORE_ELSE": "ignored",
    }
    settings = read(env=environ)
    assert settings.db == "sqlite:a,b.db"
    assert settings.domains == ("example.com", "example.org")
    assert endpoints(settings) == (
        "tcp:25:interface=127.0.0.1:backlog=1024",
        "tcp6:26:backlog=1024",
    )
    assert (settings.allowVrfy, settings.allowExpn) == (False, True)
    assert settings.limits.maxSize == 5


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    environ = {option.variable: "" for option in OPTIONS}
    assert read("hostname=a", env=environ) == read("hostname=a")


def test_a_wrong_value_in_the_environment_is_named_by_its_variable() -> None:
    assert complaint(env={"SMTPSTORE_MAX_SIZE": "x"}).startswith("SMTPSTORE_MAX_SIZE: ")
    assert complaint(env={"SMTPSTORE_NO_VRFY": "x"}) == (
        "SMTPSTORE_NO_VRFY: 'x' is not one of: true, false"
    )


# The file


def test_a_file_says_the_same(toml: Path) -> None:
    toml.write_text(
        'port = [25, "tcp6:26"]\ndomain = "example.com"\nmax-size = 5\ntimeout = 1.5\n'
        'no-vrfy = true\nno-expn = false\ndb = "sqlite:a,b.db"\nrelay-client = []\n'
    )
    settings = read(f"config={toml}")
    assert endpoints(settings) == (
        "tcp:25:interface=127.0.0.1:backlog=1024",
        "tcp6:26:backlog=1024",
    )
    assert settings.domains == ("example.com",)
    assert settings.limits == Limits(maxSize=5, timeout=1.5)
    assert (settings.allowVrfy, settings.allowExpn) == (False, True)
    assert settings.db == "sqlite:a,b.db"


def test_the_command_line_wins_over_the_environment_and_it_over_the_file(toml: Path) -> None:
    toml.write_text('max-size = 1\nmax-line = 1\nmax-recipients = 1\ndomain = ["a.example"]\n')
    environ = {
        "SMTPSTORE_CONFIG": str(toml),
        "SMTPSTORE_MAX_SIZE": "2",
        "SMTPSTORE_MAX_LINE": "2",
        "SMTPSTORE_DOMAIN": "b.example",
    }
    settings = read("max-size=3", "domain=c.example", env=environ)
    assert settings.limits == Limits(maxSize=3, maxLine=2, maxRecipients=1)
    assert settings.domains == ("c.example",)


def test_the_command_line_names_another_file_than_the_environment(toml: Path) -> None:
    toml.write_text("max-size = 1\n")
    settings = read(f"config={toml}", env={"SMTPSTORE_CONFIG": "/nonexistent.toml"})
    assert settings.limits.maxSize == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_size = 1", "unknown key 'max_size', did you mean max-size?"),
        ("zzz = 1", "unknown key 'zzz', see twistd smtpstore --help"),
        ('config = "a"', "unknown key 'config'"),
        ("[smtp]\nport = 1", "unknown key 'smtp'"),
        ("max-size = ", "not TOML: "),
        ("max-size = true", "one value is wanted"),
        ("max-size = [1]", "one value is wanted"),
        ("max-size = 1.5", "whole number"),
        ("domain = [true]", "a value or a list of them is wanted"),
        ("domain = {a = 1}", "a value or a list of them is wanted"),
        ("no-vrfy = 1", "true or false is wanted"),
        ('no-vrfy = "true"', "true or false is wanted"),
        ('http = "x"', "neither a port number"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(toml: Path, text: str, says: str) -> None:
    toml.write_text(text)
    line = complaint(f"config={toml}")
    assert says in line
    assert str(toml) in line


def test_a_file_that_is_not_text_is_one_line(toml: Path) -> None:
    toml.write_bytes(b"\xff\xfe")
    assert "not TOML" in complaint(f"config={toml}")


def test_a_directory_in_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    assert "Is a directory" in complaint(f"config={tmp_path}")


# twistd's command line


@pytest.fixture(autouse=True)
def noEnvironment(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)


def parse(*args: str) -> Options:
    options = Options()
    options.parseOptions(list(args))
    return options


def test_the_command_line_fills_settings_and_dictionary() -> None:
    options = parse("--port", "25", "--port=26", "--no-vrfy", "--domain", "example.com")
    assert len(options.settings.ports) == 2
    assert options["port"] == ("25", "26")
    assert options["no-vrfy"] is True
    assert options["max-size"] == 52_428_800
    assert options["domain"] == ("example.com",)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_of_the_table_is_an_option_of_twistd(option: object) -> None:
    name = option.name  # type: ignore[attr-defined]
    assert any(known.rstrip("=") == name for known in Options().longOpt)


def test_two_command_lines_do_not_share_what_they_were_given() -> None:
    parse("--domain", "a.example")
    assert parse("--domain", "b.example").settings.domains == ("b.example",)


@pytest.mark.parametrize(
    "args", [["--max-size", "x"], ["--max-size"], ["--no-vrfy=1"], ["--config", "/nonexistent"]]
)
def test_a_wrong_value_is_one_line_without_usage(args: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*args)
    assert str(caught.value.code).startswith("smtpstore: ")
    assert "\n" not in str(caught.value.code)


@pytest.mark.parametrize("args", [["--nonsense"], ["nonsense"], ["--max", "1"]])
def test_an_unknown_word_shows_the_usage_and_then_one_line(args: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*args)
    lines = str(caught.value.code).splitlines()
    assert any("--max-size=N" in line for line in lines)
    assert lines[-1].startswith("smtpstore: ")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_help_fits_its_width_and_shows_every_default(width: int) -> None:
    text = Options().getUsage(width)
    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.split())
    for shown in ("2525", "127.0.0.1", "sqlite:smtpstore.db", "52428800", "reject", "30", "600"):
        assert f"[default: {shown}]" in joined
    assert "None" not in text
    assert "not built" not in text
