"""What may stand behind --target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laudc.errors import UserError
from laudc.remote.target import Target, parse_target


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("ssh://nano", Target("nano")),
        ("ssh://me@nano.local", Target("nano.local", "me")),
        ("ssh://me@10.0.0.7:2222/", Target("10.0.0.7", "me", 2222)),
        ("ssh://me@[fe80::1]:22", Target("fe80::1", "me", 22)),
    ],
)
def test_targets(url, wanted):
    assert parse_target(url) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "nano",
        "me@nano",
        "http://nano",
        "ssh://",
        "ssh://nano/path",
        "ssh://nano?x=1",
        "ssh://nano:port",
        "ssh://nano:99999",
        "ssh://-oProxyCommand=x",
        "ssh://-l@nano",
        "ssh://me;id@nano",
        "ssh://na$(id)no",
        "ssh://na no",
    ],
)
def test_what_is_no_target(url):
    with pytest.raises(UserError, match="not usable") as caught:
        parse_target(url)
    assert "ssh://USER@HOST" in str(caught.value)


def test_passwords_are_refused_and_not_repeated():
    with pytest.raises(UserError, match="has a password") as caught:
        parse_target("ssh://me:secret@nano")
    assert "secret" not in str(caught.value) and "ssh-copy-id" in str(caught.value)
    with pytest.raises(UserError) as caught:
        parse_target("ftp://me:secret@nano")
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30))
def test_nothing_that_is_accepted_can_be_an_option_or_shell(text):
    try:
        target = parse_target(f"ssh://{text}")
    except UserError:
        return
    assert not target.destination.startswith("-")
    assert not set(target.destination) & set(" ;&|$`'\"\\\n()<>*?{}!#")
