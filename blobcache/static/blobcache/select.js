/* Selects rows of a list: all on the page, or a range with Shift. Without it, box by box. */
"use strict";

for (const form of document.querySelectorAll("form.bc-selectable")) {
    const boxes = [...form.querySelectorAll("input.action-select")];
    const all = form.querySelector(".bc-select-all");
    const shown = form.querySelector(".bc-selected");
    const copy = form.querySelector(".bc-copy-text");
    let last = null;

    const update = () => {
        const chosen = boxes.filter((box) => box.checked);
        all.checked = chosen.length > 0 && chosen.length === boxes.length;
        all.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
        shown.textContent = shown.dataset.text
            .replace("{chosen}", chosen.length)
            .replace("{all}", boxes.length);
        if (copy) {
            copy.dataset.copy = chosen.map((box) => box.value).join("\n");
            copy.disabled = chosen.length === 0;
        }
        for (const row of boxes) {
            row.closest("tr").classList.toggle("selected", row.checked);
        }
    };

    if (!boxes.length || !all) {
        continue;
    }
    all.hidden = false;
    all.addEventListener("change", () => {
        for (const box of boxes) {
            box.checked = all.checked;
        }
        update();
    });
    for (const box of boxes) {
        box.addEventListener("click", (event) => {
            if (event.shiftKey && last !== null && last !== box) {
                const [first, end] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
                for (const each of boxes.slice(first, end + 1)) {
                    each.checked = box.checked;
                }
            }
            last = box;
            update();
        });
    }
    update();
}
