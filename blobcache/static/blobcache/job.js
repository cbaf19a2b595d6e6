/* Takes the steps of a job, one request after another. Without this file a button does it. */
"use strict";

{
    const form = document.getElementById("bc-advance");
    const shown = document.getElementById("bc-job");
    const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

    const step = async () => {
        const body = new FormData(form);
        body.set("one", "yes");
        const response = await fetch(form.action, { method: "POST", body, credentials: "same-origin" });
        if (!response.ok) {
            throw new Error(response.statusText);
        }
        const text = await response.text();
        return new DOMParser().parseFromString(text, "text/html").getElementById("bc-job");
    };

    const work = async () => {
        let failures = 0;
        await sleep(Number(shown.dataset.pause));
        for (;;) {
            let fresh = null;
            try {
                fresh = await step();
                failures = 0;
            } catch {
                failures += 1;
                shown.querySelector("p").textContent = shown.dataset.failed;
                await sleep(Math.min(2 ** failures, 60));
                continue;
            }
            if (!fresh || !["waiting", "running"].includes(fresh.dataset.state)) {
                location.reload(); // the end of the job, or of the login
                return;
            }
            shown.replaceChildren(...fresh.childNodes);
            shown.dataset.pause = fresh.dataset.pause;
            await sleep(Number(shown.dataset.pause));
        }
    };

    // Nobody needs the button while this page works by itself.
    form.querySelector("[name=advance]").hidden = true;
    work();
}
