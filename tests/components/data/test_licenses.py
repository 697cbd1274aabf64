"""Licence statements, as packages word them, become SPDX or stay unknown."""

from importlib.metadata import distributions

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.licenses import (
    LICENSING,
    classifiers_to_spdx,
    objection,
    refine,
    terms_of,
    text_to_spdx,
    to_spdx,
    with_header,
)

MIT = (
    "MIT License\n\nCopyright (c) 2020 A. Person\n\nPermission is hereby granted, free of charge, to any person …\n"
    "The above copyright notice and this permission notice shall be included in all copies …"
)
BSD = "Redistribution and use in source and binary forms, with or without modification, are permitted …"
BSD3 = BSD + " Neither the name of the owner … may be used to endorse or promote products derived from this software …"


@pytest.mark.parametrize(
    ("statement", "spdx"),
    [
        ("mit", "MIT"),
        ("The MIT License", "MIT"),
        ("Apache 2", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("https://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("GPLv3", "GPL-3.0-only"),
        ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("PSFL", "PSF-2.0"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ("LicenseRef-in-house", "LicenseRef-in-house"),
        ("공공누리 제1유형", "LicenseRef-KOGL-1"),
        ("KOGL Type 4", "LicenseRef-KOGL-4"),
        ("공공누리", ""),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("Creative Commons BY-ND 4.0", "CC-BY-ND-4.0"),
        ("https://creativecommons.org/licenses/by/4.0/deed.ko", "CC-BY-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("MIT OR GPL-3.0-only AND Apache-2.0", "MIT OR (GPL-3.0-only AND Apache-2.0)"),
        ("GPL-2.0+ WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("LLVM-exception", ""),
        ("MIT WITH Apache-2.0", ""),
        ("MIT GPL-3.0-only", ""),
        ("()", ""),
        ("(" * 90 + "MIT" + ")" * 90, "MIT"),
        ("NOASSERTION", ""),
        (MIT, "MIT"),
        ("BSD License", "BSD"),
        ("Dual License", ""),
        ("see LICENSE file", ""),
        ("MIT/Apache-2.0", ""),
        ("MIT WITH", ""),
        ("UNKNOWN", ""),
        ("", ""),
    ],
)
def test_statements_seen_in_packages(statement, spdx):
    assert to_spdx(statement) == spdx


@pytest.mark.parametrize(
    ("declared", "text", "license_"),
    [
        ("", "// SPDX-License-Identifier: MIT OR Apache-2.0\nint a;", "MIT OR Apache-2.0"),
        ("", "/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */", "GPL-2.0-only WITH Linux-syscall-note"),
        ("", "<!-- SPDX-License-Identifier: CC-BY-4.0 -->\n# SPDX-License-Identifier: MIT\n", "CC-BY-4.0 AND MIT"),
        ("", "# SPDX-License-Identifier: whatever it is\n", ""),
        ("", "Write SPDX-License-Identifier: MIT on top of a file.", ""),
        ("MIT", "no word of it", "MIT"),
        ("MIT", "# SPDX-License-Identifier: MIT\n", "MIT"),
        ("MIT OR ISC", "# SPDX-License-Identifier: GPL-3.0-only\n", "(MIT OR ISC) AND (GPL-3.0-only)"),
    ],
)
def test_a_file_that_names_its_licence_is_believed_beside_its_declaration(declared, text, license_):
    assert with_header(declared, text) == license_
    assert not license_ or objection(license_, {"MIT", "ISC"}) != "no licence"


def test_several_classifiers_must_all_be_honoured():
    known = ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: Apache Software License"]
    assert classifiers_to_spdx(["Topic :: Text", *known]) == "MIT AND Apache-2.0"
    assert classifiers_to_spdx([*known, "License :: Other/Proprietary License"]) == ""
    assert classifiers_to_spdx(["License :: OSI Approved"]) == ""


def test_a_licence_text_settles_which_bsd_is_meant():
    assert refine("BSD", [BSD3]) == "BSD-3-Clause"
    assert refine("BSD AND Apache-2.0", [BSD]) == "BSD-2-Clause AND Apache-2.0"
    assert refine("BSD", []) == ""
    assert refine("BSD", [BSD, BSD3]) == ""
    assert refine("", [MIT]) == "MIT"
    assert refine("", [MIT, "Third-party notices"]) == "MIT"
    assert refine("", [MIT, "GNU General Public License, version 3"]) == ""
    assert refine("MPL-2.0", [MIT]) == "MPL-2.0"


def test_a_text_with_more_than_one_licence_or_copyleft_is_not_recognised():
    assert text_to_spdx(MIT + BSD3) == ""
    assert text_to_spdx(MIT + " GNU General Public License") == ""


@pytest.mark.parametrize(
    ("expression", "permitted"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("MIT AND (GPL-3.0-only OR Apache-2.0)", True),
    ],
)
def test_or_needs_one_side_and_needs_both(expression, permitted):
    assert (objection(expression, {"MIT", "Apache-2.0"}) == "") is permitted


@pytest.mark.parametrize(
    ("expression", "ground"),
    [
        ("CC-BY-4.0", ""),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 forbids commercial use"),
        ("CC-BY-ND-4.0", "CC-BY-ND-4.0 forbids changed copies"),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0 asks for itself on what is made from it"),
        ("MPL-2.0 OR MIT", ""),
        ("MPL-2.0", "MPL-2.0 asks for itself on what is made from it"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only asks for itself on what is made from it"),
        ("LicenseRef-KOGL-1", ""),
        ("LicenseRef-KOGL-2", "LicenseRef-KOGL-2 forbids commercial use"),
        ("LicenseRef-KOGL-3", "LicenseRef-KOGL-3 forbids changed copies"),
        ("MIT AND LicenseRef-KOGL-4", "LicenseRef-KOGL-4 forbids commercial use"),
        ("LicenseRef-vendor-2024", ""),
        ("JSON", "JSON is not on the list"),
    ],
)
def test_what_is_on_the_list_must_also_allow_what_is_needed(expression, ground):
    listed = {key for key in LICENSING.license_keys(expression) if key != "JSON"}
    assert objection(expression, listed, ["commercial", "modification"], share_alike=False) == ground
    if "asks for" in ground:
        assert objection(expression, listed, ["commercial", "modification"], share_alike=True) == ""
    if "forbids" in ground:
        assert objection(expression, listed) == ""


def test_what_nobody_has_said_about_a_licence_is_not_known():
    assert terms_of("LicenseRef-vendor-2024") == (None, None, None)
    assert terms_of("BUSL-1.1") == (None, None, None)


@given(
    st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9.() -]{0,40}( (OR|AND|WITH) [A-Za-z0-9.-]{1,12})?", fullmatch=True)
)
def test_whatever_is_stated_the_answer_is_valid_spdx_or_nothing(statement):
    spdx = to_spdx(statement)
    assert spdx in ("", "BSD") or to_spdx(spdx) == spdx


def test_nearly_every_installed_package_has_a_licence_we_can_name():
    stated = [
        to_spdx(headers.get("License-Expression") or "") or to_spdx(headers.get("License") or "")
        for headers in (distribution.metadata for distribution in distributions())
        if headers.get("License-Expression") or headers.get("License")
    ]
    named = [spdx for spdx in stated if spdx]
    assert len(named) > 0.85 * len(stated)
    assert all(spdx == "BSD" or LICENSING.validate(spdx).errors == [] for spdx in named)
