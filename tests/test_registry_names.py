"""What people write for a registered version, asked of a registry that has one."""

from pathlib import Path

import pytest

from storage import registry
from storage.registry import RegistryError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


NONE = ("3", "99999999999999999999", str(2**31), "9" * 5000, "x", "", "-1", "٣")


def test_a_version_that_is_none_is_answered_with_what_there_is(home: Path) -> None:
    client = registry.connect()
    client.create_registered_model("named")
    client.create_model_version("named", source=str(home))
    assert int(registry.resolve(client, "models:/named/1").version) == 1
    for which in NONE:
        missing = f"models:/named/{which} is not in the registry .*models:/named/1"
        with pytest.raises(RegistryError, match=missing):
            registry.resolve(client, f"models:/named/{which}")
