"""One router a noun; `application.create_app` puts them together."""
