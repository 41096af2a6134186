"""`hookrelay version`"""

from click.testing import CliRunner

import hookrelay
from hookrelay.cli.version import command


def test_it_says_which_it_is_and_where_the_licences_are():
    said = CliRunner().invoke(command, [])
    assert said.output.startswith(f"hookrelay {hookrelay.__version__} (Python 3.")
    said = CliRunner().invoke(command, ["--licenses"])
    assert (said.exit_code, "in the .dist-info folders beside" in said.output) == (0, True)
