"""Only what may be used passes, and every exclusion has a reason."""

import pytest

from components.common.documents import part_files, read_table
from components.common.step import Context
from components.data.screen.options import Screen
from components.data.screen.policy import Claim, Excluded, judge, run
from pipelines.single import run_single


@pytest.mark.parametrize(
    ("claim", "options", "reason"),
    [
        (Claim("public", "public", "MIT", ""), {}, None),
        (Claim("public", "public", "Apache-2.0 WITH LLVM-exception", ""), {}, None),
        (Claim("in_house", "internal", "LicenseRef-in-house", ""), {}, None),
        (Claim("public", "public", "", "MIT License"), {}, None),
        (Claim("public", "public", "GPL-3.0-only", ""), {}, Excluded.LICENSE_REFUSED),
        (Claim("public", "public", "GPL-3.0-only", ""), {"licenses": ["GPL-3.0-only"]}, Excluded.LICENSE_REFUSED),
        (Claim("public", "public", "GPL-3.0-only", ""), {"licenses": ["GPL-3.0-only"], "share_alike": True}, None),
        (Claim("public", "public", "CC-BY-NC-4.0", ""), {"licenses": ["CC-BY-NC-4.0"]}, Excluded.LICENSE_REFUSED),
        (Claim("public", "public", "CC-BY-NC-4.0", ""), {"licenses": ["CC-BY-NC-4.0"], "needs": []}, None),
        (Claim("public", "public", "", ""), {}, Excluded.LICENSE_UNKNOWN),
        (Claim("public", "public", "", "BSD License"), {}, Excluded.LICENSE_UNKNOWN),
        (Claim("public", "confidential", "MIT", ""), {}, Excluded.CONFIDENTIALITY),
        (Claim("public", "confidential", "MIT", ""), {"max_confidentiality": "restricted"}, None),
        (Claim("public", "internal", "MIT", ""), {"max_confidentiality": "public"}, Excluded.CONFIDENTIALITY),
        (Claim("third_party", "public", "MIT", ""), {"classes": ["public", "in_house"]}, Excluded.CLASS),
    ],
)
def test_the_policy(claim, options, reason):
    assert judge(claim, Screen(**options))[1] is reason


@pytest.fixture
def documents(document, written):
    def made(name, license_, confidentiality="public", **tags):
        metadata = {"source_class": "public", "robots": "not applicable", **tags}
        return document(name, name, license=license_, confidentiality=confidentiality, metadata=metadata, source=name)

    return written(
        [
            made("good", "MIT"),
            made("worded", "", license_stated="Apache License 2.0"),
            made("copyleft", "GPL-3.0-or-later"),
            made("silent", "", license_stated="ask bob@corp.com, tel 010-1234-5678"),
            made("secret", "MIT", "restricted"),
            document("nobody's", "undeclared", license="MIT", confidentiality="public"),
        ]
    )


def test_every_document_is_kept_or_counted_and_licences_become_spdx(documents, tmp_path, environment):
    options = Screen(classes=["public"])
    outcome = run(documents, tmp_path / "out", options, Context("data/screen", environment))
    kept = {row["url"]: row["license"] for row in read_table(tmp_path / "out").to_pylist()}
    assert kept == {"good": "MIT", "worded": "Apache-2.0"}
    assert outcome.dropped == {"class": 1, "confidentiality": 1, "license_refused": 1, "license_unknown": 1}
    assert outcome.counts_in == outcome.counts_out + sum(outcome.dropped.values())
    page = outcome.report.html()
    assert "GPL-3.0-or-later is not on the list" in page
    assert "Terms of the licences that occur in what is allowed" in page
    assert "the statement does not say which licence it means" in page
    assert "restricted is above internal" in page
    assert "third_party is not among public" in page
    assert "robots.txt: not applicable for 5 documents" in page
    assert "bob@corp.com" not in page
    assert "010-1234-5678" not in page


def test_the_report_says_where_the_terms_lie_and_whose_have_changed(document, written, tmp_path, environment):
    def made(name, **tags):
        return document(name, name, license="MIT", confidentiality="public", metadata=tags, source=name)

    terms = {"terms": "https://site.example/terms", "terms_sha256": "a" * 64}
    rows = [
        made("site", **terms, terms_changed="2026-01-02", robots_sha256="b" * 64, robots="allowed"),
        *(made(f"pypi/{number}", **terms) for number in range(3)),
        made("lost", terms="https://gone.example/"),
        made("own"),
    ]
    page = run(written(rows), tmp_path / "out", Screen(), Context("data/screen", environment)).report.html()
    assert "site: the terms are others since 2026-01-02 than before" in page
    assert page.count("evidence/" + "a" * 64) == 2
    assert page.count("evidence/" + "b" * 64) == 1
    assert "pypi/0 and 2 more" in page
    assert "not kept" in page
    assert "none declared" in page


def test_the_component_writes_the_same_bytes_every_time(documents, tmp_path, environment):
    parts = []
    for name in ("first", "second"):
        metrics = run_single("data/screen", {"documents": documents}, {"allowed": tmp_path / name}, {}, environment)
        parts.append([part.read_bytes() for part in part_files(tmp_path / name)])
    assert parts[0] == parts[1]
    assert metrics["records_out"] == 3
