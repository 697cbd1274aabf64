"""Options of data/screen."""

from typing import Literal

from pydantic import Field

from components.common.options import Options
from components.data.sources import Confidentiality, Use

PERMISSIVE = (
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "CNRI-Python",
    "HPND",
    "ISC",
    "LicenseRef-in-house",
    "LLVM-exception",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "PSF-2.0",
    "Python-2.0",
    "Unlicense",
    "Zlib",
)


class Screen(Options):
    """What may be used at all."""

    licenses: list[str] = Field(
        list(PERMISSIVE),
        description="SPDX licences and exceptions that may be used; `A OR B` needs one of them, `A AND B` both.",
    )
    needs: list[Use] = Field(
        ["commercial", "modification"],
        description="What a licence must not forbid, also one of `licenses`: a tuned model is a changed copy.",
    )
    share_alike: bool = Field(
        False, description="Whether a licence may ask for the same licence for what is made from the documents."
    )
    max_confidentiality: Confidentiality = Field("internal", description="Highest confidentiality that may be used.")
    classes: list[Literal["public", "in_house", "third_party"]] = Field(
        ["public", "in_house", "third_party"], description="Source classes that may be used."
    )
