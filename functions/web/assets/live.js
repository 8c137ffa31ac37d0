// Makes the pages live. Each page is complete without it.
"use strict";
{
  const one = (selector) => document.querySelector(selector);
  const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

  // Buttons that copy the command beside them.
  const copied = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Without https a browser offers only this way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  const offerCopies = () => {
    for (const button of document.querySelectorAll(".copy[hidden]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await copied(button.parentElement.querySelector("code").textContent);
        button.textContent = "Copied";
        await pause(2000);
        button.textContent = "Copy";
      });
    }
  };
  offerCopies();

  // Search as you type: the list that the page itself would show.
  const field = one("#q");
  const typed = async () => {
    const asked = field.value;
    await pause(120);
    if (asked !== field.value) return;
    const url = `/-/search?${new URLSearchParams(new FormData(field.form))}`;
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const results = page.querySelector("#results");
    // The answer is outdated if the text has changed.
    if (!results || asked !== field.value) return;
    one("#results").replaceWith(results);
    if (location.pathname === "/-/search") history.replaceState(null, "", url);
  };
  if (field && one("#results")) field.addEventListener("input", () => typed().catch(() => {}));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && field && !/INPUT|TEXTAREA/.test(event.target.tagName) && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      field.focus();
    }
  });

  // A build: its state, and its log as it grows.
  const live = one("#live");
  const put = (selector, text) => {
    const element = one(selector);
    // Screen readers announce each change, so equal text is not set again.
    if (element.textContent !== text) element.textContent = text;
  };
  const show = ({ state, headline, progress, elapsed_seconds: seconds }) => {
    put("#state", state);
    one("#state").dataset.state = state;
    put("#says", headline);
    put("#elapsed", seconds === undefined ? "" : `${Math.floor(seconds / 60)} min ${seconds % 60} s`);
    const phase = state === "building" ? (progress?.phase ?? "starting") : state;
    for (const step of document.querySelectorAll("#steps li")) {
      if (step.dataset.phase === phase) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    }
    const caches = Object.entries(progress?.fetched ?? {});
    const from = caches.map(([cache, paths], n) => `${paths}${n ? "" : " store paths"} from ${cache}`);
    put("#fetched", caches.length ? `fetched: ${from.join(", ")}` : "");
    const bar = one("#bar");
    bar.hidden = !progress?.expected;
    if (!bar.hidden) {
      one("#bar progress").max = progress.expected;
      one("#bar progress").value = progress.done;
      put("#done", `${progress.done} of ${progress.expected} derivations built`);
    }
  };
  const follow = async () => {
    const log = one("#log");
    const answer = await fetch(live.dataset.log + live.dataset.next);
    if (!answer.ok) return;
    const text = await answer.text();
    const next = /from=(\d+)>/.exec(answer.headers.get("link") ?? "");
    if (next) live.dataset.next = next[1];
    if (!text) return;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    one("#tail").hidden = false;
    log.textContent = (log.textContent + text).slice(-100000);
    if (atEnd) log.scrollTop = log.scrollHeight;
  };
  const watch = async () => {
    for (;;) {
      let seconds = 0;
      try {
        const answer = await fetch(live.dataset.status, { headers: { accept: "application/json" } });
        const status = await answer.json();
        if (status.state !== "queued" && status.state !== "building") return location.reload();
        show(status);
        await follow();
        seconds = status.elapsed_seconds ?? 0;
      } catch {
        put("#says", "The server does not answer; retrying.");
      }
      await pause(1000 * Math.min(10, Math.max(document.hidden ? 10 : 1, seconds / 20)));
    }
  };
  const log = one("#log");
  if (log) log.scrollTop = log.scrollHeight;
  if (live) watch();
}
