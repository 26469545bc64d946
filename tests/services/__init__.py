"""Small services that tests run as child processes and put under load."""
