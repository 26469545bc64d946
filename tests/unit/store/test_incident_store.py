"""The incident store on SQLite."""

import pytest

from tests.contracts.incident_store_contract import IncidentStoreContract


class TestIncidentStore(IncidentStoreContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/events.db"
