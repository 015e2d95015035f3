"""Personal data: what is masked, as what, and what only looks like it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.config import PiiConfig
from tasks.text.pii import PLACEHOLDERS, mask
from tasks.text.pii_numbers import is_bank_card, is_resident_id, luhn

ALL = PiiConfig()

MASKED = {
    "email": [
        "Write to jane.doe+news@mail.server.co.uk.",
        "邮箱：zhang_san@qq.com，谢谢",
        "mailto:info@site.io",
        "邮箱：zhangsan＠qq．com",
        "postgres://admin:S3cret@db.host.io:5432/x",
        "write to jane@corp.com(work) first",
        "邮箱zhang@site.tech(工作日)",
        "邮箱/zhangsan@qq.com",
        "write to ram@mail.com.np or call",
        "Jane@Firma.DE",
        "office@kingdom.to",
        "Mail to show@no-priors.com.Sarah is",
        "JANE@MAIL.FIRMA.DE.",
        "Jane@Gmail.Com",
    ],
    "phone": [
        "+86 138 0013 8000",
        "电话13800138000联系",
        "手机：138-0013-8000。",
        "tel. 13912345678",
        "010-62551234",
        "(0571) 8765 4321",
        "0755-86013388",
        "(415) 555-2671",
        "Call 415-555-2671 today",
        "+44 20 7946 0958",
        "+49 (0)9546-9223-20",
        "(+1) 650 534-0325",
        "手机：１３８００１３８０００。",
        "（＋86）138 0013 8000",
        "（010）62551234",
        "电话０１０－６２５５１２３４",
        "TEL:86-13800138000",
        "0086 138 0013 8000",
        "电话 021-62345678-801",
        "0571-87654321/87654322",
        "手機 0912-345-678",
        "台北 02-2345-6789",
        "090-1234-5678",
        "张三 2024-01-05 13912345678",
        "人民路88号 13912345678",
        "微信ID：13912345678",
        "联系方式：1. 13912345678",
        "电话：（1）13912345678",
        "Call (415)\u00a0555-2671",
        "+49\u00a089\u00a01234567",
        "1\u2011855\u2011846\u20112895",
        "电话：010\u201362551234",
        "Tel: 02079460958",
        "Tel. 0142 685300",
        "Tél : 01 42 68 53 00",
        "Phone no: 4155552671",
        "Fax 02079460958.",
        "WhatsApp 447911123456",
        "电话：62551234",
        "客服热线 4008123456",
    ],
    "ip": [
        "from 130.89.148.77,",
        "2606:4700:4700::1111",
        "Host:212.94.201.10",
        "服务器IP:212.94.201.10",
        "http://212.94.201.10:8080/x",
    ],
    "id_number": [
        "身份证号11010519491231002X。",
        "ID 440308199901101512",
        "１１０１０５１９４９１２３１００２Ｘ",
        "1 11010519491231002X 1949-12-31",
    ],
    "bank_card": [
        "4111 1111 1111 1111",
        "卡号：6222021234567890128",
        "6222 0212 3456 7890 128",
        "5500-0000-0000-0004",
        "3782 822463 10005",
    ],
    "secret": [
        "key=AKIAIOSFODNN7EXAMPLE",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "sk-proj-abcDEF123456abcDEF123456abcDEF",
        "xoxb-123456789012-abcdefGHIJKL",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAbc=\n-----END RSA PRIVATE KEY-----",
    ],
}
KEPT = [
    "root@localhost",
    "name@example.com",
    "systemctl start mail@user.service",
    "https://lists.example.net/r/x.123@host.org",
    "git@github",
    "127.0.0.1, 192.168.1.20 and 10.0.0.1, and 2001:db8::1",
    "Section 15.4.2.2. Registration",
    "version 2.35.1.100",
    "openresty/1.9.27.133",
    "版本：2.35.1.100 and 版本号 7.0.100.3",
    "10:20:30 and 12:34:56:78",
    "2024-01-02 10:20:30",
    "ISBN 978-7-111-11111-1",
    "3.14159265358979",
    "order 16907720011",
    '"id":"16031489011"',
    "1234567890123456",
    "110105194913310021",
    "a commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "550e8400-e29b-41d4-a716-446655440000",
    "sk-learn-is-a-nickname-of-a-library",
    "1990-2000-2010",
    "$ 415-555-2671"[:5],
    "1,234,567.89",
    "第 12.1.1.3 节",
    "git clone git@github.com:user/repo.git",
    "scp jane@server.io:/var/log/syslog .",
    "icon@2x.png",
    "scores = q@k.transpose(-2, -1)",
    "y = self.w@x.view(n, d)",
    "loss = p@q.log().sum()",
    "x = w@x.to(device)",
    "npm install lodash@latest.js",
    "npm install pkg@1.2.3 other@1.2.3-beta.rc",
    "npm i @scope/name@next.io",
    "uses: actions/checkout@v4.ai",
    "joe@machine.lan and root@box.localdomain",
    "aa:bb:cc:dd:ee:ff:00:11",
    "1:2:3:4:5:6:7:8",
    "增长+12345678元",
    "+12 345 678 people",
    "共13800138000元",
    "第13912345678号",
    "订单号：13912345678",
    "学号：13912345678，工號 13912345678，群号13912345678",
    "用户ID：13912345678",
    "２０２４年１月２日，第１２３４５６７８９０章",
    "Hotel: 12345678 and iPhone 1234567890",
    "Phone 20240115, Mobile: 2024-01-15",
    "Phone: 192.168.100.20",
    "固定电话 1234567 户，手机1234567台，热线 12345678 次",
    "新款手机 20231015 上市",
    "telnet 1234567890, cell 1234567890",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in MASKED.items() for text in texts])
def test_is_masked_as_its_kind(kind: str, text: str) -> None:
    masked, counts = mask(text, ALL)
    assert counts == {kind: 1}
    assert PLACEHOLDERS[kind] in masked
    assert mask(masked, ALL) == (masked, {})


@pytest.mark.parametrize(
    "piece", ["-----BEGIN PRIVATE KEY-----", "1 ", "(1)", "1/", "a@", "1.1.", "eyJ", "a:"]
)
def test_no_text_makes_masking_slow(piece: str) -> None:
    """A million characters of what might be something take a second or two, as any million does."""
    started = time.process_time()
    mask(piece * (2**20 // len(piece)), ALL)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask(text, ALL) == (text, {})


def test_what_stands_around_it_stays() -> None:
    assert mask("Call (+18777804236), or me@site.io.", ALL)[0] == "Call (<PHONE>), or <EMAIL>."


def test_emails_that_a_stroke_parts_are_two() -> None:
    assert mask("a.li@qq.com/b.wang@163.com", ALL) == ("<EMAIL>/<EMAIL>", {"email": 2})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("电话：13912345678 13812345678", "电话：<PHONE> <PHONE>"),
        ("电话：13912345678/13812345678", "电话：<PHONE>/<PHONE>"),
        ("电话：13912345678（010-62551234）", "电话：<PHONE>（<PHONE>）"),
        ("（010）62551234 （010）62551235", "<PHONE> <PHONE>"),
        ("Tel 415-555-2671 / 415-555-2672", "Tel <PHONE> / <PHONE>"),
        ("电话：+8613912345678 13812345678", "电话：<PHONE> <PHONE>"),
        ("证件 11010519491231002X 13912345678。", "证件 <ID_NUMBER> <PHONE>。"),
        ("4111 1111 1111 1111 12/26 123", "<BANK_CARD> 12/26 123"),
        ("电话 2019 2020 2021 2022 13912345678", "电话 2019 2020 2021 2022 <PHONE>"),
        ("第 150 2019 2020 2021 页", "第 150 2019 2020 2021 页"),
    ],
)
def test_numbers_that_stand_side_by_side_are_known_one_by_one(text: str, masked: str) -> None:
    assert mask(text, ALL)[0] == masked


@pytest.mark.parametrize("kind", MASKED)
def test_each_kind_can_be_switched_off(kind: str) -> None:
    text = MASKED[kind][0]
    assert mask(text, PiiConfig.model_validate({kind: False})) == (text, {})
    assert mask(text, PiiConfig(enabled=False)) == (text, {})


def test_checksums() -> None:
    assert is_resident_id("11010519491231002X")
    assert not is_resident_id("110105194912310021")
    assert not is_resident_id("11010519491331002X")
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    assert not is_bank_card("9111111111111111")


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_is_only_changed_where_it_is_counted(text: str) -> None:
    masked, counts = mask(text, ALL)
    assert (masked == text) == (not counts)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789 .-+()@:ax/电", max_size=120))
def test_masking_twice_is_masking_once(text: str) -> None:
    once, counts = mask(text, ALL)
    assert sum(once.count(placeholder) for placeholder in PLACEHOLDERS.values()) == sum(counts.values())
