/* Counts down until a repair may continue. Without this file the page says when that is. */
"use strict";

for (const line of document.querySelectorAll(".bc-wait")) {
    const shown = line.querySelector("span");
    const due = performance.now() + 1000 * Number(line.dataset.seconds);
    line.hidden = false;
    const timer = setInterval(() => {
        const left = Math.ceil((due - performance.now()) / 1000);
        if (left > 0) {
            shown.textContent = left;
        } else {
            clearInterval(timer);
            line.textContent = line.dataset.done;
        }
    }, 250);
}
