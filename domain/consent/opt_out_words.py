"""The words by which people take consent back, by language: data, not code.

`KEYWORDS` count where they are the whole of a message, politeness aside; `PHRASES` wherever they stand in a short
one. Sources: 47 CFR 64.1200(a)(10) (stop, quit, end, revoke, opt out, cancel, unsubscribe, and any other
reasonable means), the carriers' list (STOPALL), and what people write in the languages of Europe and beyond.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EVERYWHERE", "KEYWORDS", "NEGATIONS", "NOT_BY_MAIL", "PHRASES", "POLITE", "VERSION"]

VERSION = "2026-11-22"
"""The version of these words; every message that was understood by them names it."""

KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "en": (
        "stop",
        "stopall",
        "stop all",
        "unsubscribe",
        "unsubscribe all",
        "unsub",
        "cancel",
        "end",
        "quit",
        "revoke",
        "optout",
        "opt out",
        "opt-out all",
        "remove",
        "remove me",
    ),
    "de": ("stopp", "abmelden", "abmeldung", "abbestellen", "austragen", "widerruf", "kündigen", "ende"),
    "fr": ("arrêt", "arrêter", "désabonner", "désabonnement", "désinscription", "désinscrire", "stop pub"),
    "es": ("baja", "alto", "parar", "cancelar", "detener", "darse de baja", "anular suscripción"),
    "it": ("basta", "annulla", "disiscrivi", "disiscrivimi", "cancellami", "disdici", "ferma"),
    "nl": ("afmelden", "uitschrijven", "stoppen", "opzeggen"),
    "pt": ("sair", "pare", "cancelar", "descadastrar", "remover", "cancelar inscrição"),
    "pl": ("wypisz", "wypisz mnie", "rezygnuję", "rezygnacja", "koniec"),
    "sv": ("stopp", "avsluta", "avregistrera", "avanmäl"),
    "da": ("afmeld", "frameld", "slut"),
    "nb": ("avmeld", "stopp", "slutt"),
    "fi": ("lopeta", "peruuta", "poista"),
    "cs": ("odhlásit", "konec", "zrušit"),
    "ro": ("dezabonare", "oprire", "anulare"),
    "tr": ("iptal", "dur", "abonelikten çık"),
    "el": ("στοπ", "διαγραφή", "τέλος"),
    "ru": ("стоп", "отписаться", "отписка"),
    "uk": ("стоп", "відписатися"),
    "ja": ("停止", "配信停止", "解除"),
    "zh": ("退订", "停止", "取消订阅", "td"),
    "ko": ("수신거부", "중지"),
    "ar": ("توقف", "إيقاف", "إلغاء الاشتراك"),
}

EVERYWHERE = frozenset(("stopall", "stop all", "unsubscribe all", "opt out all"))
"""These end every channel; the others end the one on which they were written."""

NOT_BY_MAIL = frozenset(
    "cancel end quit ende alto basta annulla cancelar sair pare koniec konec slut slutt dur iptal "
    "kundigen remove remover ferma poista zrusit anulare τελος td".split()
)
"""Too short to mean that in a letter, where an order or an appointment may be cancelled with the same word."""

POLITE: frozenset[str] = frozenset(
    "please pls plz thanks thx thank you hi hello hey dear bitte danke hallo merci svp bonjour gracias hola favor por "
    "grazie ciao prego graag bedankt obrigado obrigada dzieki prosze dziekuje tack hej kiitos now jetzt".split()
)

PHRASES: Mapping[str, tuple[str, ...]] = {
    "en": (
        "unsubscribe",
        "unsubscribe me",
        "opt me out",
        "opt out",
        "stop texting",
        "stop messaging",
        "stop emailing",
        "stop calling",
        "stop contacting",
        "stop spamming",
        "stop sending me messages",
        "stop sending me emails",
        "stop sending me texts",
        "stop sending me these",
        "stop sending these",
        "do not text me",
        "do not message me",
        "do not email me",
        "do not call me",
        "do not contact me",
        "dont text me",
        "dont message me",
        "dont email me",
        "dont call me",
        "dont contact me",
        "no more texts",
        "no more messages",
        "no more emails",
        "no more calls",
        "take me off",
        "remove me from",
        "remove my number",
        "remove my email",
        "leave me alone",
        "withdraw my consent",
        "revoke my consent",
    ),
    "de": (
        "melden sie mich ab",
        "nehmen sie mich aus",
        "keine sms mehr",
        "keine mails mehr",
        "keine e mails mehr",
        "keine nachrichten mehr",
        "keine werbung mehr",
        "keine anrufe mehr",
        "nicht mehr kontaktieren",
        "nicht mehr anschreiben",
        "nicht mehr anrufen",
        "widerrufe meine einwilligung",
        "newsletter abbestellen",
    ),
    "fr": (
        "me désabonner",
        "me désinscrire",
        "ne plus recevoir",
        "ne m envoyez plus",
        "ne me contactez plus",
        "retirez moi de",
        "retire mon consentement",
    ),
    "es": (
        "darme de baja",
        "dame de baja",
        "denme de baja",
        "no quiero recibir",
        "no me envíen más",
        "no me contacten",
        "retiro mi consentimiento",
    ),
    "it": ("non voglio più ricevere", "non contattatemi", "cancellatemi", "revoco il consenso"),
    "nl": ("geen sms meer", "geen mail meer", "geen berichten meer", "wil me uitschrijven", "schrijf me uit"),
    "pt": ("não quero receber", "não quero mais receber", "não me contacte", "retiro o meu consentimento"),
    "pl": ("wypisz mnie", "nie chcę otrzymywać", "cofam zgodę"),
    "sv": ("avregistrera mig", "inga fler sms", "inga fler mejl"),
}

NEGATIONS = frozenset(
    "not dont never didnt cannot cant wont nicht kein ne pas nunca non niet nie inte".split()
)
"""Right before a phrase they turn it into its opposite: "please do not unsubscribe me"."""
