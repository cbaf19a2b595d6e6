/* Adds the status to the card on the admin's first page. Without this file the card has a link. */
"use strict";

{
    const place = document.getElementById("bc-home");
    if (place) {
        fetch(place.dataset.url, { credentials: "same-origin" })
            .then((response) => (response.ok && !response.redirected ? response.text() : null))
            .then((text) => {
                if (text !== null) {
                    const parsed = new DOMParser().parseFromString(text, "text/html");
                    place.replaceChildren(...parsed.body.childNodes);
                }
            })
            .catch(() => {});
    }
}
