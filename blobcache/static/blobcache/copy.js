/* Copies what a button holds. Without this file the buttons stay hidden, and all else works. */
"use strict";

{
    const status = document.getElementById("bc-status");

    // The clipboard's own interface is there only over https and on localhost.
    const copyBySelection = (text) => {
        const field = document.createElement("textarea");
        field.value = text;
        field.className = "bc-hidden";
        document.body.append(field);
        field.select();
        const isDone = document.execCommand("copy");
        field.remove();
        return isDone;
    };

    const copy = async (text) => {
        try {
            await navigator.clipboard.writeText(text);
            return true;
        } catch {
            return copyBySelection(text);
        }
    };

    for (const button of document.querySelectorAll(".bc-copy, .bc-copy-text")) {
        button.hidden = false;
    }

    document.addEventListener("click", async (event) => {
        const button = event.target.closest(".bc-copy, .bc-copy-text");
        if (!button) {
            return;
        }
        const isDone = await copy(button.dataset.copy);
        button.focus();
        status.textContent = "";
        status.textContent = isDone ? status.dataset.copied : status.dataset.failed;
        if (isDone) {
            button.classList.add("bc-copied");
            setTimeout(() => button.classList.remove("bc-copied"), 1500);
        }
    });
}
