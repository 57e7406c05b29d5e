"""Pages for a person who knows nothing of touchlog: no sign-in, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html

from litestar import Response

__all__ = ["named", "open_page"]


_SPELT = {
    "email": "e-mail",
    "sms": "SMS",
    "mms": "MMS",
    "whatsapp": "WhatsApp",
    "phone": "telephone",
    "web": "web",
}


def named(purpose: str) -> str:
    """A purpose or a channel as a person reads it, escaped."""
    words = "anything" if purpose == "*" else purpose.replace(".", " ").replace("_", " ")
    return html.escape(_SPELT.get(purpose, words))


def open_page(title: str, body: str, *, code: int = 200) -> Response[str]:
    """A page with its title as heading; *body* is HTML."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title}</h1>{body}</main></body></html>"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    return Response(page, media_type="text/html", headers=headers, status_code=code)


_STYLE = (
    ":root{--paper:#f6f7f8;--card:#fff;--ink:#1b1f24;--soft:#57636f;--line:#d5dbe0;--accent:#0b5cad;--on:#fff}"
    "@media(prefers-color-scheme:dark){:root{--paper:#11171d;--card:#192129;--ink:#e6ebf0;--soft:#a5b2be;"
    "--line:#36424d;--accent:#7cb8ef;--on:#0c1a20}}"
    "*{box-sizing:border-box}"
    "body{font:1.1rem/1.5 system-ui,sans-serif;margin:0;color:var(--ink);background:var(--paper)}"
    "main{max-width:36rem;margin:8vh auto;padding:2rem;background:var(--card);border-radius:.5rem}"
    "@media(max-width:40rem){main{margin:0;min-height:100vh;padding:1.25rem;border-radius:0}}"
    "h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}p{margin:0 0 1rem}a{color:var(--accent)}"
    "button{font:inherit;padding:.7rem 1.3rem;min-height:2.9rem;border:1px solid var(--accent);border-radius:.4rem;"
    "background:var(--accent);color:var(--on);cursor:pointer}"
    "button.second{background:none;color:var(--ink);border-color:var(--line)}"
    ":focus-visible{outline:3px solid var(--accent);outline-offset:2px}"
    "fieldset{border:0;margin:0 0 1.25rem;padding:0}legend{padding:0;margin-bottom:.5rem;color:var(--soft)}"
    ".choice{display:grid;grid-template-columns:auto 1fr;gap:0 .8rem;align-items:start;padding:.8rem 0;border-top:1px solid var(--line)}"
    ".choice input{width:1.5rem;height:1.5rem;margin:.1rem 0 0;accent-color:var(--accent)}"
    ".choice label{overflow-wrap:anywhere}.choice .text{grid-column:2;color:var(--soft);font-size:.95rem;margin:.3rem 0 0}"
    "hr{border:0;border-top:1px solid var(--line);margin:1.5rem 0}"
)
