"use strict";

const place = document.getElementById("docs");

function say(text, href, link) {
  const line = document.createElement("p");
  const anchor = document.createElement("a");
  anchor.href = href;
  anchor.textContent = link;
  line.append(text, " ", anchor);
  place.replaceChildren(line);
}

function show(session) {
  SwaggerUIBundle({
    url: "/api/openapi.json",
    domNode: place,
    deepLinking: true,
    validatorUrl: null,
    requestInterceptor(request) {
      if (session.csrf) request.headers["X-CSRF-Token"] = session.csrf;
      return request;
    },
  });
}

async function start() {
  try {
    const answer = await fetch("/api/session");
    if (answer.ok) show(await answer.json());
    else say("The description is shown to people who are logged in:", "/", "log in, then come back.");
  } catch {
    say("The engine does not answer. Is it running?", "/api-docs", "Try again.");
  }
}

start();
