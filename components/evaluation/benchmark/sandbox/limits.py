"""What a program that a model wrote may use."""

from pydantic import Field

from components.common.options import Options


class Limits(Options):
    """Most that a program may use."""

    seconds: float = Field(10.0, gt=0, description="Wall-clock and processor seconds.")
    memory_mib: int = Field(512, ge=64, description="Address space in MiB.")
    file_mib: int = Field(8, ge=1, description="Largest file in MiB; all of its files may take four times as much.")
    open_files: int = Field(64, ge=16, description="Files open at a time.")
