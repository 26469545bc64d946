"""The whole product on real servers, a real browser and real time."""
