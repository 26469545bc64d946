"""One router per resource; `application.create_app` combines them."""
