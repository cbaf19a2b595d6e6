/* Continues a build by itself, step by step. Without this file the button does one step. */
"use strict";

{
    const form = document.querySelector(".bc-again");
    const timer = setTimeout(() => form.requestSubmit(), 300);
    const stop = form.querySelector(".cancel-link");
    // Whoever is about to stop is not interrupted by the next step.
    for (const event of ["focus", "pointerdown"]) {
        stop.addEventListener(event, () => clearTimeout(timer));
    }
}
