import { render } from "preact";
import { App } from "./app.tsx";
import "uplot/dist/uPlot.min.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/components.css";
import "./styles/controls.css";
import "./styles/pages.css";
import "./styles/lists.css";
import "./styles/subject.css";
import "./styles/chart.css";
import "./styles/pause.css";
import "./styles/phone.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
