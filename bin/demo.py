"""The demonstration history: eighteen months of a fictitious retailer and its customers.

Harbour & Vale sells things for the home in shops and on the web, in Britain, Germany, France and Spain.
Everything is made up and deterministic: addresses end in `.example` or `example.com`, phone numbers
come from ranges that regulators keep for fiction where there are such, and nothing else is read but `now`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from random import Random
from typing import Any, NamedTuple

import msgspec

__all__ = ["demo_events", "demo_mailing"]

Event = dict[str, Any]
Data = dict[str, Any]

DAYS = 548  # eighteen months
SHOP = "https://www.harbourvale.example"
CONTROLLER = "Harbour & Vale Ltd"
NEWS, OFFERS, PROFILING = "marketing.news", "marketing.offers", "analytics.profiling"


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return text.split(" / ")


class _Country(msgspec.Struct, frozen=True):
    code: str
    language: str
    currency: str
    weight: int
    first: list[str]
    last: list[str]
    cities: list[str]
    streets: list[str]
    postcode: str  # `#` is a digit
    landline: str
    mobile: str


COUNTRIES = [
    _Country(
        "GB",
        "en",
        "GBP",
        46,
        _words(
            """Olivia Amelia Isla Ava Freya Grace Florence Elsie Poppy Harriet Nadia Priya Aisha Chloe Megan Beth
            George Arthur Oscar Henry Leo Archie Theo Freddie Alfie Tariq Imran Callum Rhys Angus Owen Dylan"""
        ),
        _words(
            """Smith Jones Taylor Brown Williams Wilson Davies Evans Thomas Johnson Roberts Walker Wright Robinson
            Thompson White Hughes Edwards Green Hall Wood Harris Clarke Patel Khan Campbell Stewart Murray Okafor
            Begum Singh Ahmed Barnes Ellis Marsh Whitfield"""
        ),
        _words(
            "London Manchester Leeds Bristol Glasgow Cardiff Norwich York Exeter Sheffield Belfast Brighton"
        ),
        _phrases(
            "Station Road / Church Lane / Mill Street / Victoria Avenue / Park Crescent / Queens Road / Orchard Close / Harbour View"
        ),
        "LS## 4QD",
        "+44161496####",
        "+44770090####",
    ),
    _Country(
        "DE",
        "de",
        "EUR",
        22,
        _words(
            """Emma Mia Hannah Lena Marie Clara Johanna Greta Frieda Anneliese Katharina Aylin Jana Sabine Ben Paul
            Leon Finn Jonas Lukas Felix Moritz Anton Karl Matthias Jürgen Emre Tobias"""
        ),
        _words(
            """Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Koch Bauer Richter Klein
            Wolf Schröder Neumann Braun Zimmermann Krüger Hartmann Lange Vogel Yılmaz Kowalski Brandt Jäger"""
        ),
        _words("Berlin Hamburg München Köln Leipzig Bremen Freiburg Nürnberg Dresden Kassel"),
        _phrases(
            "Lindenstraße / Gartenweg / Bahnhofstraße / Am Markt / Schillerstraße / Bergstraße / Kastanienallee"
        ),
        "1####",
        "+49302312####",
        "+491760406####",
    ),
    _Country(
        "FR",
        "fr",
        "EUR",
        18,
        _words(
            """Louise Alice Chloé Camille Manon Inès Juliette Léa Zoé Margaux Élodie Fatima Gabriel Raphaël Louis
            Jules Adam Hugo Arthur Étienne Mathis Baptiste Yanis Olivier"""
        ),
        _words(
            """Martin Bernard Dubois Robert Richard Petit Durand Leroy Moreau Laurent Lefèvre Michel Garcia David
            Bertrand Roux Vincent Fournier Girard Bonnet Lambert Fontaine Benali Mercier"""
        ),
        _words("Paris Lyon Nantes Bordeaux Lille Toulouse Rennes Dijon Annecy"),
        _phrases(
            "rue des Lilas / avenue de la Gare / rue Victor-Hugo / place du Marché / chemin des Vignes / boulevard Voltaire"
        ),
        "690##",
        "+331990#####",
        "+3363998####",
    ),
    _Country(
        "ES",
        "es",
        "EUR",
        14,
        _words(
            """Lucía Sofía Martina María Paula Julia Valeria Carmen Marta Nuria Hugo Mateo Martín Lucas Daniel
            Alejandro Pablo Manuel Álvaro Adrián Javier Iker"""
        ),
        _words(
            """García Rodríguez González Fernández López Martínez Sánchez Pérez Gómez Ruiz Hernández Díaz Moreno
            Muñoz Álvarez Romero Navarro Torres Domínguez Ibáñez Etxeberria"""
        ),
        _words("Madrid Barcelona Valencia Sevilla Bilbao Zaragoza Málaga Granada"),
        _phrases(
            "calle Mayor / calle del Olmo / avenida de la Constitución / plaza Nueva / paseo del Prado / calle de Alcalá"
        ),
        "280##",
        "+3491000####",
        "+3460000####",
    ),
]


class _Product(NamedTuple):
    sku: str
    name: str
    category: str
    price_minor: int  # pence or cents


PRODUCTS = [
    _Product("KT-1104", "Enamel kettle, sage", "kitchen", 4500),
    _Product("KT-1210", "Cast-iron casserole 24 cm", "kitchen", 11900),
    _Product("KT-1233", "Chef's knife 20 cm", "kitchen", 6450),
    _Product("KT-1301", "Oak chopping board", "kitchen", 3200),
    _Product("KT-1417", "Set of four stoneware bowls", "kitchen", 3800),
    _Product("KT-1450", "Linen tea towels, pack of three", "kitchen", 1950),
    _Product("KT-1502", "Espresso maker, 6 cups", "kitchen", 3600),
    _Product("KT-1620", "Hand coffee grinder", "kitchen", 5250),
    _Product("LV-2105", "Wool throw, heather", "living", 8900),
    _Product("LV-2140", "Reading lamp, brass", "living", 12500),
    _Product("LV-2208", "Velvet cushion 50 x 50", "living", 3400),
    _Product("LV-2311", "Jute rug 160 x 230", "living", 17900),
    _Product("LV-2402", "Beeswax candles, pair", "living", 1400),
    _Product("LV-2455", "Three-seat sofa Alder", "furniture", 149900),
    _Product("FN-3102", "Dining table Hawthorn, oak", "furniture", 89900),
    _Product("FN-3120", "Spindle chair", "furniture", 18900),
    _Product("FN-3207", "Bookcase Rowan", "furniture", 42900),
    _Product("BD-4101", "Washed linen duvet set", "bedroom", 13900),
    _Product("BD-4133", "Feather pillow", "bedroom", 4900),
    _Product("BD-4210", "Brushed cotton pyjamas", "bedroom", 5900),
    _Product("BA-5102", "Waffle bath towel", "bathroom", 2400),
    _Product("BA-5140", "Cedar bath mat", "bathroom", 4400),
    _Product("GD-6101", "Copper watering can", "garden", 3900),
    _Product("GD-6120", "Terracotta planter, large", "garden", 5400),
    _Product("GD-6205", "Folding garden chair", "garden", 7900),
    _Product("GD-6301", "Secateurs", "garden", 2850),
    _Product("GF-7101", "Gift card", "gifts", 5000),
    _Product("GF-7140", "Hamper The Pantry", "gifts", 6900),
]
SMALL_PRODUCTS = [product for product in PRODUCTS if product.category != "furniture"]
STORES = {
    "GB": ["Manchester King Street", "Leeds Victoria", "London Marylebone", "Bristol Harbourside"],
    "DE": ["Berlin Mitte", "Hamburg Altona"],
    "FR": ["Lyon Presqu'île", "Nantes Centre"],
    "ES": ["Madrid Salesas", "Barcelona Born"],
}
AGENTS = [
    "Maya Lindqvist",
    "Daniel Achterberg",
    "Ruth Adeyemi",
    "Tom Castell",
    "Hélène Marchetti",
    "Piotr Zielony",
]
SELLERS = ["Imogen Sharpe", "Karsten Vogt", "Claire Aubert"]
TECHNICIANS = ["Gareth Pugh", "Sven Brückner", "Nadège Collet", "Jordi Ferrer"]
CARRIERS = ["Northway Parcel", "Rapide Colis", "Blue Van"]
PLACES = ["front door", "neighbour", "locker", "in person"]
ROOMS = ["lobby", "dining room", "twelve bedrooms", "terrace"]
EVENINGS = ["Members' evening", "Knife-sharpening workshop", "Wreath making"]
COMPANIES = _words(
    """Millrace Bluebell Foxglove Anchor Lantern Juniper Saltmarsh Copperleaf Brightwater Thornbury Oakridge
    Fairhaven Kingfisher Ravensworth Heathcote Alderney Larkspur Pemberton Seafield Wren"""
)

# What customers write about: topic -> language -> (subject, text).
TOPICS = {
    "delivery": {
        "en": ("Where is my order {order}?", "It should have come on Tuesday. Can you tell me where it is?"),
        "de": ("Wo bleibt meine Bestellung {order}?", "Sie sollte am Dienstag kommen. Können Sie nachsehen?"),
        "fr": ("Où est ma commande {order} ?", "Elle devait arriver mardi. Pouvez-vous vérifier ?"),
        "es": ("¿Dónde está mi pedido {order}?", "Tenía que llegar el martes. ¿Pueden comprobarlo?"),
    },
    "damaged": {
        "en": ("Order {order} arrived damaged", "One corner is chipped. I have attached two photos."),
        "de": ("Bestellung {order} beschädigt", "Eine Ecke ist abgeplatzt. Zwei Fotos liegen bei."),
        "fr": ("Commande {order} endommagée", "Un coin est ébréché. Je joins deux photos."),
        "es": ("El pedido {order} llegó dañado", "Una esquina está rota. Adjunto dos fotos."),
    },
    "refund": {
        "en": ("Refund for {order}", "I sent it back ten days ago and have not seen the money yet."),
        "de": (
            "Erstattung für {order}",
            "Ich habe die Ware vor zehn Tagen zurückgeschickt, das Geld fehlt noch.",
        ),
        "fr": ("Remboursement de {order}", "J'ai renvoyé l'article il y a dix jours, rien sur mon compte."),
        "es": ("Reembolso de {order}", "Lo devolví hace diez días y todavía no he recibido el dinero."),
    },
    "invoice": {
        "en": ("Invoice for {order}", "Could you send the invoice with our company's address on it?"),
        "de": ("Rechnung zu {order}", "Könnten Sie die Rechnung auf unsere Firma ausstellen?"),
        "fr": ("Facture pour {order}", "Pourriez-vous établir la facture au nom de notre société ?"),
        "es": ("Factura de {order}", "¿Podrían enviar la factura a nombre de la empresa?"),
    },
    "product": {
        "en": ("A question about {product}", "Does it work on an induction hob, and is it dishwasher-safe?"),
        "de": ("Frage zu {product}", "Ist das für Induktion geeignet und spülmaschinenfest?"),
        "fr": ("Une question sur {product}", "Convient-il à l'induction et au lave-vaisselle ?"),
        "es": ("Una pregunta sobre {product}", "¿Sirve para inducción y para el lavavajillas?"),
    },
}
ANSWERS = {
    "en": "Thank you for writing to us. I have looked into it and will keep you informed.",
    "de": "Vielen Dank für Ihre Nachricht. Ich habe nachgesehen und halte Sie auf dem Laufenden.",
    "fr": "Merci pour votre message. J'ai vérifié et je vous tiens informé.",
    "es": "Gracias por escribirnos. Lo he comprobado y le mantendré al corriente.",
}
SUMMARIES = {
    "delivery": ("Parcel held at the depot; new delivery day agreed", "redelivered"),
    "damaged": ("Replacement sent free of charge, old piece may be kept", "replaced"),
    "refund": ("Refund found and released", "refunded"),
    "invoice": ("Invoice reissued to the company", "explained"),
    "product": ("Suits induction; hand-washing advised", "explained"),
}
MAILS = {
    "order": {
        "en": "Thank you for your order {order}",
        "de": "Vielen Dank für Ihre Bestellung {order}",
        "fr": "Merci pour votre commande {order}",
        "es": "Gracias por su pedido {order}",
    },
    "shipped": {
        "en": "Your order {order} is on its way",
        "de": "Ihre Bestellung {order} ist unterwegs",
        "fr": "Votre commande {order} est en route",
        "es": "Su pedido {order} está en camino",
    },
    "confirm": {
        "en": "Please confirm your address",
        "de": "Bitte bestätigen Sie Ihre Adresse",
        "fr": "Veuillez confirmer votre adresse",
        "es": "Confirme su dirección, por favor",
    },
}
TEXTS = {
    "today": {
        "en": "Harbour & Vale: your parcel comes today between {hour}:00 and {later}:00.",
        "de": "Harbour & Vale: Ihr Paket kommt heute zwischen {hour} und {later} Uhr.",
        "fr": "Harbour & Vale : votre colis arrive aujourd'hui entre {hour} h et {later} h.",
        "es": "Harbour & Vale: su paquete llega hoy entre las {hour} y las {later}.",
    },
    "offer": {
        "en": "Harbour & Vale: 20% off linen until Sunday. Reply STOP to opt out.",
        "de": "Harbour & Vale: 20 % auf Leinen bis Sonntag. STOP zum Abmelden.",
        "fr": "Harbour & Vale : -20 % sur le lin jusqu'à dimanche. STOP pour se désinscrire.",
        "es": "Harbour & Vale: 20 % en lino hasta el domingo. STOP para darse de baja.",
    },
    "open": {
        "en": "Hello, is the Leeds shop open on Sunday?",
        "de": "Hallo, hat der Laden in Berlin am Samstag bis 20 Uhr offen?",
        "fr": "Bonjour, la boutique de Lyon est-elle ouverte lundi ?",
        "es": "Hola, ¿abre la tienda de Madrid el domingo?",
    },
    "hours": {
        "en": "Yes, from eleven to five. See you then!",
        "de": "Ja, bis 20 Uhr. Wir freuen uns auf Sie!",
        "fr": "Oui, de 14 h à 19 h. À bientôt !",
        "es": "Sí, de once a cinco. ¡Hasta pronto!",
    },
}
# Praise, and blame.
COMMENTS = {
    "en": (["Quick and friendly.", "Lovely packaging."], ["Took three calls.", "Delivery was late again."]),
    "de": (
        ["Schnell und freundlich.", "Schön verpackt."],
        ["Musste dreimal anrufen.", "Kam wieder zu spät."],
    ),
    "fr": (["Rapide et aimable.", "Bel emballage."], ["J'ai dû appeler trois fois.", "Encore en retard."]),
    "es": (["Rápido y amable.", "Embalaje precioso."], ["Tuve que llamar tres veces.", "Otra vez tarde."]),
}

# (name, version) -> (in use from so many days after the start on, purpose, text)
NOTICES = {
    ("newsletter", "1"): (0, NEWS, "We send you news about once a week. Unsubscribe at any time."),
    ("offers", "1"): (0, OFFERS, "We send you offers by e-mail or text message."),
    ("profiling", "1"): (1, PROFILING, "We look at your orders to suggest what may suit you."),
    ("newsletter", "2"): (
        210,
        NEWS,
        "Weekly news; we measure which links you follow. Unsubscribe at any time.",
    ),
    ("offers", "2"): (330, OFFERS, "Offers chosen by what you bought, by e-mail or text message."),
}
LANGUAGES = ("en", "de", "fr", "es")


# What campaigns are about, January to December: name, and subject of its mails.
THEMES = [
    ("Winter sale", "The winter sale: up to half price"),
    ("Winter table", "Set the table for winter"),
    ("Spring kitchen", "A lighter kitchen for spring"),
    ("Garden days", "Garden days: 15% off until Sunday"),
    ("Terrace", "Supper on the terrace"),
    ("Summer bedroom", "Sleep cool: washed linen is back"),
    ("Summer sale", "The summer sale begins today"),
    ("Stoneware", "New: stoneware from Brittany"),
    ("Back indoors", "Back indoors: lamps and throws"),
    ("Oak furniture", "Oak furniture, 10% off this week"),
    ("Gift guide", "The gift guide is here"),
    ("Advent", "Candles, hampers and a quiet evening"),
]


class _Campaign(NamedTuple):
    id: str
    day: int  # after the start
    way: str
    purpose: str
    name: str = ""
    subject: str = ""

    def named(self) -> Data:
        """How events name it."""
        return {"campaign_id": self.id, "campaign": self.name}


CAMPAIGNS = [
    _Campaign("CMP-01", 40, "newsletter", NEWS),
    _Campaign("CMP-02", 85, "newsletter", NEWS),
    _Campaign("CMP-03", 120, "offer", OFFERS),
    _Campaign("CMP-04", 160, "sms", OFFERS),
    _Campaign("CMP-05", 205, "newsletter", NEWS),
    _Campaign("CMP-06", 250, "offer", OFFERS),
    _Campaign("CMP-07", 300, "newsletter", NEWS),
    _Campaign("CMP-08", 345, "newsletter", NEWS),
    _Campaign("CMP-09", 375, "sms", OFFERS),
    _Campaign("CMP-10", 405, "whatsapp", OFFERS),
    _Campaign("CMP-11", 440, "newsletter", NEWS),
    _Campaign("CMP-12", 480, "offer", OFFERS),
    _Campaign("CMP-13", 520, "offer", OFFERS),
    _Campaign("CMP-14", 540, "newsletter", NEWS),
]


# How visitors come to the first page: by themselves, searching, from a friend, a mail, an advertisement.
ARRIVALS: list[Data] = [
    {},
    {"referrer": "https://search.example/"},
    {"referrer": "https://social.example/", "utm_source": "social", "utm_medium": "post"},
    {"utm_source": "newsletter", "utm_medium": "email"},
    {"utm_source": "search", "utm_medium": "cpc", "utm_campaign": "brand"},
]

# Chances by hour of the day, 0 to 23.
HOURS = {
    "web": "2 1 1 0 0 1 3 5 7 8 8 9 10 9 8 8 8 9 11 14 17 17 12 6",
    "shop": "0 0 0 0 0 0 0 0 0 6 10 13 14 12 11 11 12 13 9 4 0 0 0 0",
    "desk": "0 0 0 0 0 0 0 0 8 14 15 13 9 10 12 11 9 5 0 0 0 0 0 0",
}
CLOCKS = {name: list(accumulate(map(int, chances.split()))) for name, chances in HOURS.items()}
SEASON = [1.1, 0.8, 0.85, 0.9, 0.95, 0.9, 0.8, 0.75, 0.95, 1.05, 1.6, 1.7]  # January to December


_Word = tuple[datetime, bool]
"""Yes or no, and since when."""


class _Visit(NamedTuple):
    session: str
    device: str


class _Told(NamedTuple):
    """An event with the time at which its source sends it."""

    arrives_at: datetime
    number: int
    event: Event
    snapshot: str | None


class _Person(msgspec.Struct):
    """A customer as the retailer's systems know them, each under a name of its own."""

    number: int
    country: _Country
    first: str
    last: str
    address: str
    city: str
    emails: list[str]
    phones: list[str]
    devices: list[str]
    joined_at: datetime
    user: str = ""  # an account in the web shop
    crm: str = ""  # a record in the sales department's system
    cards: list[str] = msgspec.field(default_factory=list)
    company: str = ""
    known_at: datetime | None = None  # since when the browser's visits are signed in
    wishes: dict[tuple[str, str, str], list[_Word]] = msgspec.field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def email(self) -> str:
        return f"email:{self.emails[0]}"

    @property
    def phone(self) -> str:
        return f"phone:{self.phones[0]}"

    @property
    def whatsapp(self) -> str:
        return f"whatsapp:{self.phones[0]}"

    def shopper(self) -> list[str]:
        """How the web shop names a buyer."""
        refs = [self.user, self.email] if self.user else [self.email, self.phone]
        return [ref for ref in refs if ref]

    def wants(self, purpose: str, channel: str, contact: str, at: datetime) -> bool:
        """Whether the last word before *at* was a yes."""
        words = [word for word in self.wishes.get((purpose, channel, contact), ()) if word[0] <= at]
        return max(words)[1] if words else False


def demo_events(*, now: datetime, persons: int = 1200, seed: int = 7) -> Iterator[Event]:
    """The history up to *now*, as CloudEvents, in the order in which the retailer would have sent them.

    The order is that of time, but for facts that were written on paper and typed in weeks later.
    """
    yield from _Retailer(now, persons, seed).told()


def demo_mailing(*, now: datetime, sent_at: datetime, persons: int = 1200, seed: int = 7) -> Iterator[Event]:
    """One more newsletter, sent after the history up to *now* was recorded; to some who do not want it, too.

    Consents of the history count as known only from its loading on; of this mailing a sender could know.
    """
    retailer = _Retailer(now, persons, seed)
    dice = Random(f"{seed} mailing")  # noqa: S311
    wanted = (p for p in retailer.persons if p.wants(NEWS, "email", p.email, now) or dice.random() < 0.02)
    for n, person in enumerate(islice(wanted, 80)):
        yield {
            "specversion": "1.0",
            "id": f"mailing-{n + 1:04d}",
            "source": "demo/mail",
            "type": "email.sent",
            "time": _text(sent_at + timedelta(milliseconds=n)),
            "subject": person.email,
            "purpose": NEWS,
            "data": {
                "contact": person.email,
                "campaign_id": "CMP-15",
                "subject": "This week at Harbour & Vale",
                "template": "newsletter",
                "language": person.country.language,
                "message_id": f"<mailing-{n + 1}@mail.harbourvale.example>",
            },
        }


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(pattern: str, digits: int) -> str:
    """*pattern* with its `#` filled by the last digits of a number."""
    width = pattern.count("#")
    filled = iter(f"{digits:0{width}d}"[-width:])
    return "".join(next(filled) if c == "#" else c for c in pattern)


def _plain(name: str) -> str:
    """A name as it stands in an address: without accents."""
    spelled = name.lower()
    for letters, plain in (
        ("äáàâ", "a"),
        ("éèêë", "e"),
        ("íïîıì", "i"),
        ("öóôò", "o"),
        ("üúùû", "u"),
        ("ñ", "n"),
        ("ç", "c"),
    ):
        for letter in letters:
            spelled = spelled.replace(letter, plain)
    return spelled.replace("ß", "ss")


class _Retailer:
    """The retailer's systems over eighteen months; every story adds events to one list."""

    def __init__(self, now: datetime, persons: int, seed: int) -> None:
        self.now = now.astimezone(UTC)
        self.start = (self.now - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
        self.dice = Random(f"{seed}")  # noqa: S311
        self.counters: dict[str, int] = {}
        self.events: list[_Told] = []
        self.withdrawn: dict[str, str] = {}  # contact point -> id of the fact
        growth = (0.7 + 0.6 * n / DAYS for n in range(DAYS + 1))
        days = (self.start + timedelta(days=n) for n in range(DAYS + 1))
        busy = (
            g * SEASON[d.month - 1] * (1.25 if d.weekday() > 4 else 1)
            for g, d in zip(growth, days, strict=True)
        )
        self.season = list(accumulate(busy))
        self.persons = [self._person(n) for n in range(persons)]
        self.campaigns = [self._themed(campaign) for campaign in CAMPAIGNS]
        self._notices()
        self._campaigns_launched()
        for person in self.persons:
            self._life(person)
        self._strangers(persons // 4)
        self._shared_devices()
        for campaign in self.campaigns:
            self._campaign(campaign)
        self._corrections()

    # --- the list, time and chance --------------------------------------------------------------------------

    def on(self, source: str, *refs: str, **extensions: str) -> _Teller:
        """A teller of what happens in one system to one customer: the subject, then further identifiers."""
        return _Teller(self, source, [ref for ref in refs if ref], extensions)

    def told(self) -> Iterator[Event]:
        """All events in order; `snapshot` is the place in this order, which is the position in an empty log."""
        self.events.sort(key=lambda told: (told.arrives_at, told.number))
        places = {told.event["id"]: place for place, told in enumerate(self.events)}
        for place, told in enumerate(self.events):
            if told.snapshot is not None:
                told.event["snapshot"] = min(place, places.get(told.snapshot, place))
            yield told.event

    def day(self, after: datetime, clock: str) -> datetime:
        """A moment after *after*, by season and hour."""
        first = min(max((after - self.start).days, 0), DAYS)
        below = self.season[first - 1] if first else 0.0
        place = bisect_left(self.season, self.dice.uniform(below, self.season[-1]))
        at = self._at(self.start + timedelta(days=min(place, DAYS)), clock)
        return at if at > after else after + timedelta(minutes=self.dice.randint(20, 600))

    def later(self, at: datetime, low_days: float, high_days: float, clock: str) -> datetime:
        """A moment so many days after *at*, at an hour when such things happen."""
        then = self._at(at + timedelta(days=self.dice.uniform(low_days, high_days)), clock)
        return then if then > at else at + timedelta(minutes=self.dice.randint(30, 240))

    def _at(self, day: datetime, clock: str) -> datetime:
        hour = bisect_left(CLOCKS[clock], self.dice.uniform(0.001, CLOCKS[clock][-1]))
        minute, second, ms = self.dice.randrange(60), self.dice.randrange(60), self.dice.randrange(1000)
        return day.replace(hour=hour, minute=minute, second=second, microsecond=ms * 1000)

    def soon(self, at: datetime, low_s: float, high_s: float) -> datetime:
        """A moment so many seconds after *at*."""
        return at + timedelta(seconds=round(self.dice.uniform(low_s, high_s), 3))

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in *share* of all cases."""
        return self.dice.random() < share

    def one_of(self, choices: str) -> str:
        """One of some words; a word that stands twice is twice as likely."""
        return self.dice.choice(choices.split())

    def serial(self, prefix: str, first: int) -> str:
        """The next number of a series of business numbers."""
        number = self.counters[prefix] = self.counters.get(prefix, first - 1) + 1
        return f"{prefix}{number}"

    # --- customers ------------------------------------------------------------------------------------------

    def _person(self, n: int) -> _Person:
        dice = self.dice
        country = dice.choices(COUNTRIES, [c.weight for c in COUNTRIES])[0]
        first, last = dice.choice(country.first), dice.choice(country.last)
        street = f"{dice.randint(1, 120)} {dice.choice(country.streets)}"
        emails = [f"{_plain(first)}.{_plain(last)}{n}@example.com"]
        if self.chance(0.22):
            emails.append(f"{_plain(last)}{n}@example.org")
        if self.chance(0.03):
            emails.append(f"{_plain(first)}{n}@example.net")
        phones = [_number(country.mobile, n)]
        if self.chance(0.3):
            phones.append(_number(country.landline, n))
        person = _Person(
            number=n,
            country=country,
            first=first,
            last=last,
            address=f"{street}, {_number(country.postcode, dice.randrange(10**4))}",
            city=dice.choice(country.cities),
            emails=emails,
            phones=phones,
            devices=[
                f"anonymous:{dice.getrandbits(64):016x}" for _ in range(dice.choice((1, 1, 1, 2, 2, 3)))
            ],
            joined_at=self.start if self.chance(0.5) else self.day(self.start, "web"),
        )
        if self.chance(0.62):
            person.user = f"user:u-{10_000 + n}"
        if self.chance(0.45):
            person.cards = [f"loyalty_card:63{n:08d}"]
            if self.chance(0.06):
                person.cards.append(f"loyalty_card:64{n:08d}")  # it replaced a lost one
        if self.chance(0.07):
            person.company = f"{dice.choice(COMPANIES)} {self.one_of('Hotel Interiors Cafe Studio Lettings')}"
            person.crm = f"crm:C-{5000 + n}"
        return person

    def _life(self, person: _Person) -> None:
        """What one customer does: visits, buys, asks, answers, wants and no longer wants."""
        if person.cards:
            self._loyalty(person)
        for _ in range(self.dice.choices((0, 1, 2, 3, 5, 8), (14, 24, 24, 20, 12, 6))[0]):
            self._web_visit(person, self.day(person.joined_at, "web"))
        self._consents(person)
        if person.company:
            self._sale(person)
        for share, story in (
            (0.3, self._enquiry),
            (0.05, self._subscription),
            (0.06, self._question_by_whatsapp),
            (0.08, self._missed_call),
            (0.04, self._evening),
            (0.06, self._moved),
        ):
            if self.chance(share):
                story(person)

    # --- the web shop ---------------------------------------------------------------------------------------

    def _web_visit(self, person: _Person, at: datetime) -> None:
        """From the first page to an order, or to where the visitor gave up."""
        visit = _Visit(f"s-{self.dice.getrandbits(40):010x}", self.dice.choice(person.devices))
        product = self._browse(person, visit, at)
        at = self.soon(at, 90, 500)
        if product is None:
            return
        if person.user and self.chance(0.6):
            at = self._sign_in(person, visit, at)
        if not self.chance(0.5):
            if self.chance(0.12):
                self._chat(person, visit.device, at)
            return
        cart = self._cart(person, visit, at, product)
        at = self.soon(at, 300, 1200)
        if not self.chance(0.66):
            return
        tell = self.on("web", *self._browser(person, visit, at))
        tell("cart.updated", at, cart, session_id=visit.session, action="checkout_started")
        if self.chance(0.74):
            self._web_order(person, visit, self.soon(at, 60, 600), cart)

    def _browser(self, person: _Person | None, visit: _Visit, at: datetime) -> list[str]:
        """How the site names a visitor: by the account once signed in, else by the browser."""
        if person is not None and person.known_at is not None and at >= person.known_at:
            return [person.user, visit.device]
        return [visit.device]

    def _browse(self, person: _Person | None, visit: _Visit, at: datetime) -> _Product | None:
        """A few pages; the product that was looked at, if it came to that."""
        product = self.dice.choice(PRODUCTS)
        tell = self.on("web", *self._browser(person, visit, at))
        shared: Data = {"session_id": visit.session, "host": "www.harbourvale.example"}
        shared["device"] = self.one_of("mobile mobile mobile desktop desktop tablet")
        shared["language"] = person.country.language if person else "en"
        arrival = self.dice.choices(ARRIVALS, (34, 33, 10, 12, 11))[0]
        self._page(tell, at, shared | arrival, "/", "Harbour & Vale")
        if not self.chance(0.78):
            return None
        at = self.soon(at, 5, 45)
        self._page(tell, at, shared, f"/{product.category}", product.category.capitalize())
        if self.chance(0.07):
            found = {"query": self.dice.choice(PRODUCTS).category, "results": self.dice.randint(0, 40)}
            tell("web.tracked", self.soon(at, 1, 4), shared, event="Products Searched", properties=found)
        if not self.chance(0.8):
            return None
        self._page(
            tell, self.soon(at, 5, 40), shared, f"/p/{product.sku.lower()}", product.name, sku=product.sku
        )
        return product

    def _page(self, tell: _Teller, at: datetime, shared: Data, path: str, title: str, **more: Any) -> None:
        tell("web.page_viewed", at, shared, path=path, url=f"{SHOP}{path}", title=title, **more)

    def _sign_in(self, person: _Person, visit: _Visit, at: datetime) -> datetime:
        """The first time makes the account, and says who the browser was all along."""
        at = self.soon(at, 10, 60)
        shared: Data = {"session_id": visit.session, "method": self.one_of("password password google apple")}
        if person.known_at is not None:
            person.known_at = min(person.known_at, at)
            self.on("web", person.user, visit.device)("web.signed_in", at, shared, path="/account")
            return at
        person.known_at = at
        tell = self.on("web", person.user, person.email, visit.device)
        tell("web.registered", at, shared, name=person.name, path="/account/new")
        identifiers = {"user": person.user[5:], "email": person.emails, "phone": person.phones[0]}
        traits = {"name": person.name, "email": person.emails[0], "city": person.city}
        traits["language"] = person.country.language
        tell = self.on("web", person.user)
        tell("profile.updated", self.soon(at, 1, 5), identifiers=identifiers, traits=traits)
        return at

    def _cart(self, person: _Person, visit: _Visit, at: datetime, product: _Product) -> Data:
        tell = self.on("web", *self._browser(person, visit, at))
        cart: Data = {
            "cart_id": self.serial("cart-", 40_001),
            "currency": person.country.currency,
            "lines": [],
        }
        for chosen in [product, *self.dice.sample(PRODUCTS, self.dice.choice((0, 0, 0, 1, 1, 2)))]:
            line = self._line(chosen)
            lines = [*cart["lines"], line]
            cart = {**cart, "lines": lines, "amount_minor": _sum(lines)}
            action = {"action": "added", "sku": line["sku"], "quantity": line["quantity"]}
            tell("cart.updated", at, cart, action, session_id=visit.session)
            at = self.soon(at, 20, 120)
        return cart

    def _line(self, product: _Product) -> Data:
        quantity = self.dice.choice((1, 1, 1, 1, 2, 2, 4)) if product.price_minor < 20_000 else 1
        named = {"sku": product.sku, "name": product.name, "category": product.category}
        return {**named, "quantity": quantity, "unit_price_minor": product.price_minor}

    # --- orders ---------------------------------------------------------------------------------------------

    def _web_order(self, person: _Person, visit: _Visit, at: datetime, cart: Data) -> None:
        order, shipping = self.serial("HV-", 100_001), 0 if cart["amount_minor"] >= 5000 else 495
        paid = self.one_of("card card paypal invoice")
        money = {
            "amount_minor": cart["amount_minor"] + shipping,
            "currency": cart["currency"],
            "order_id": order,
        }
        where = {"delivery_name": person.name, "delivery_address": f"{person.address} {person.city}"}
        where |= {"delivery_method": "parcel", "country": person.country.code, "session_id": visit.session}
        tell = self.on("shop", *person.shopper(), visit.device, f"order:{order}")
        tell("order.placed", at, cart, money, where, shipping_minor=shipping, payment_method=paid)
        self._service_mail(person, "order", order, self.soon(at, 20, 90))
        if self.chance(0.04):
            reason = self.one_of("changed_mind ordered_twice payment_failed")
            tell = self.on("shop", f"order:{order}")
            tell("order.cancelled", self.soon(at, 900, 40_000), money, reason=reason, cancelled_by="customer")
            return
        self.on("shop", person.email, f"order:{order}")(
            "order.paid", self.soon(at, 5, 400), money, payment_method=paid
        )
        self._delivery(person, money, at, cart["lines"])

    def _service_mail(self, person: _Person, template: str, order: str, at: datetime) -> None:
        subject = MAILS[template][person.country.language].format(order=order)
        message = {"message_id": f"<{self.serial('m', 1)}@mail.harbourvale.example>", "subject": subject}
        message |= {"contact": person.email, "to_address": person.emails[0], "order_id": order}
        tell = self.on("mail", person.email, f"order:{order}", **_contract("service.order"))
        tell("email.sent", at, message, template=template)
        if self.chance(0.015):
            reason = {"bounce": "temporary", "reason": "mailbox_full", "smtp_code": "4.2.2"}
            self.on("mail", person.email)("email.bounced", self.soon(at, 5, 90), message, reason)

    def _delivery(self, person: _Person, money: Data, at: datetime, lines: list[Data]) -> None:
        """The carrier knows the number of the order, and nobody's name."""
        order = money["order_id"]
        tell = self.on("carrier", f"order:{order}")
        shipped = self.later(at, 0.6, 2.5, "desk")
        shared = {"order_id": order, "carrier": self.dice.choice(CARRIERS)}
        tell("order.shipped", shipped, shared, tracking_number=f"NW{self.dice.randrange(10**9):09d}")
        if self.chance(0.35):
            self._service_mail(person, "shipped", order, self.soon(shipped, 60, 600))
        arrived = self.later(shipped, 1, 4, "desk")
        if self.chance(0.3):
            text = TEXTS["today"][person.country.language].format(hour=arrived.hour, later=arrived.hour + 2)
            message = {"contact": person.phone, "to_number": person.phones[0], "text": text, "part_count": 1}
            sms = self.on("sms", person.phone, **_contract("service.order"))
            sms("sms.sent", arrived.replace(hour=7), message, order_id=order, template="delivery_today")
        tell("order.delivered", arrived, shared, place=self.dice.choice(PLACES))
        if any(line["category"] == "furniture" for line in lines):
            self._field_visit(person, order, arrived)
        if self.chance(0.32):
            self._case(person, order, lines, arrived, self.one_of("delivery damaged invoice product"))
        if self.chance(0.11):
            self._returned(person, money, arrived, lines)
        elif self.chance(0.3):
            asked = self.soon(arrived, 90_000, 180_000)
            self._survey(person, "nps", "delivery", asked, {"order_id": order}, usual=8.2)

    def _returned(self, person: _Person, money: Data, at: datetime, lines: list[Data]) -> None:
        order, back = money["order_id"], self.later(at, 4, 16, "shop")
        value = money | {
            "amount_minor": _sum(lines[:1]),
            "reason": self.one_of("too_large colour damaged changed_mind"),
        }
        tell = self.on("shop", person.email, f"order:{order}")
        tell("order.returned", back, value, lines=lines[:1], return_id=f"R-{order[3:]}")
        paid_back = self.later(back, 2, 12, "desk")
        self.on("shop", f"order:{order}")("order.refunded", paid_back, value, refund_id=f"RF-{order[3:]}")
        if (paid_back - back).days > 8:
            self._case(person, order, lines, back + timedelta(days=8), "refund")

    def _field_visit(self, person: _Person, order: str, at: datetime) -> None:
        """Furniture is put up by a technician."""
        starts = self.later(at, 2, 9, "desk").replace(minute=0, second=0, microsecond=0)
        shared = {"visit_id": self.serial("V-", 3001), "order_id": order, "task": "assemble"}
        shared["agent"] = self.dice.choice(TECHNICIANS)
        planned = {"starts_at": _text(starts), "ends_at": _text(starts + timedelta(hours=2))}
        tell = self.on("field", person.phone, person.email, f"order:{order}")
        address = f"{person.address} {person.city}"
        tell(
            "visit.scheduled",
            self.soon(at, 600, 9000),
            shared,
            planned,
            address=address,
            skills=["furniture"],
        )
        tell = self.on("field", person.phone, f"order:{order}")
        if self.chance(0.1):
            cancelled = starts - timedelta(hours=20)
            tell("visit.cancelled", cancelled, shared, reason="customer_away", cancelled_by="customer")
            return
        distance = {"distance_km": round(self.dice.uniform(2, 60), 1), "reason": "nearest_with_skill"}
        self.on("field", f"order:{order}")(
            "visit.dispatched", starts - timedelta(minutes=50), shared, distance
        )
        late_s, took_s = max(0, round(self.dice.gauss(120, 900))), self.dice.randint(1500, 7200)
        begun = starts + timedelta(seconds=late_s)
        tell("visit.started", begun, shared, late_s=late_s)
        report = {"report": "Assembled and levelled, packaging taken away", "signed_by": person.name}
        tell(
            "visit.completed",
            begun + timedelta(seconds=took_s),
            shared,
            report,
            duration_s=took_s,
            outcome="done",
        )
        about = {"visit_id": shared["visit_id"], "agent": shared["agent"]}
        self._survey(person, "csat", "visit", begun + timedelta(hours=6), about, usual=4.4)

    # --- shops and cards ------------------------------------------------------------------------------------

    def _loyalty(self, person: _Person) -> None:
        """A card that is swiped with what is bought; points are earned, spent, and lapse."""
        card, store = person.cards[0], self.dice.choice(STORES[person.country.code])
        at, points = self.day(person.joined_at, "shop"), 0
        known = [person.email] if self.chance(0.8) else [person.phone]
        if self.chance(0.7):
            known.append(person.user)
        program = {"program": "Vale Card", "store": store}
        self.on("loyalty", card, *known)("loyalty.enrolled", at, program, tier="blue", card_number=card[13:])
        for purchase in range(self.dice.choice((1, 1, 2, 2, 3, 3, 5, 8))):
            if purchase == 1 and len(person.cards) > 1:
                card = person.cards[1]
                replaced = self.on("loyalty", person.email, card)
                replaced("profile.updated", at, traits={"vale_card": "replaced"})
            points = self._store_order(person, card, program, at, points)
            at = self.later(at, 15, 90, "shop")
        if points > 0 and self.chance(0.12):
            lapsed = {"points": points, "balance_points": 0}
            self.on("loyalty", card)("loyalty.points_expired", at + timedelta(days=120), program, lapsed)

    def _store_order(self, person: _Person, card: str, program: Data, at: datetime, points: int) -> int:
        """A purchase at a till: the card is all the name there is."""
        order, currency = self.serial("T-", 700_001), person.country.currency
        lines = [
            self._line(p) for p in self.dice.sample(SMALL_PRODUCTS, self.dice.choice((1, 1, 1, 2, 2, 3)))
        ]
        where = {"store": program["store"], "till": f"till-{self.dice.randint(1, 4)}", "order_id": order}
        money = {"amount_minor": _sum(lines), "currency": currency}
        self.on("till", card)("loyalty.card_swiped", at, program, where, money)
        tell = self.on("till", card, f"order:{order}", channel="store")
        tell(
            "order.placed",
            self.soon(at, 5, 60),
            where,
            money,
            lines=lines,
            payment_method=self.one_of("card cash"),
        )
        earned = _sum(lines) // 100
        points += earned
        tell = self.on("loyalty", card)
        tell(
            "loyalty.points_earned",
            self.soon(at, 60, 90),
            program,
            where,
            points=earned,
            balance_points=points,
        )
        if points > 250 and self.chance(0.5):
            spent = points // 100 * 100
            points -= spent
            worth = {
                "points": spent,
                "balance_points": points,
                "amount_minor": spent * 2,
                "currency": currency,
            }
            tell("loyalty.points_redeemed", self.soon(at, 91, 120), program, where, worth, reward="voucher")
        if self.chance(0.06):
            self._case(person, order, lines, at, self.one_of("damaged damaged invoice product"))
        return points

    def _evening(self, person: _Person) -> None:
        at = self.day(person.joined_at, "shop").replace(hour=18, minute=30)
        name, store = self.dice.choice(EVENINGS), self.dice.choice(STORES[person.country.code])
        tell = self.on("events", *person.cards[:1] or [person.email])
        tell("event.attended", at, name=name, store=store, duration_s=self.dice.randrange(3600, 9000, 600))

    # --- service --------------------------------------------------------------------------------------------

    def _case(self, person: _Person, order: str, lines: list[Data], at: datetime, topic: str) -> None:
        """A question becomes a case; calls, mails and chats about it carry its number."""
        opened, case, language = (
            self.later(at, 0.2, 5, "desk"),
            self.serial("C-", 20_001),
            person.country.language,
        )
        shared = {"case_id": case, "order_id": order, "agent": self.dice.choice(AGENTS)}
        if topic == "product" and lines[0]["category"] != "kitchen":
            topic = "invoice"
        subject, text = TOPICS[topic][language]
        subject = subject.format(order=order, product=lines[0]["name"])
        way = self.one_of("email email email phone phone phone chat")
        self._asked(person, way, opened, topic, subject, text, shared)
        hours, days = (4, 3) if topic in {"damaged", "refund"} else (24, 5)
        due = {
            "reply_due_at": _text(opened + timedelta(hours=hours)),
            "service_level": f"reply within {hours} h",
        }
        due["resolution_due_at"] = _text(opened + timedelta(days=days))
        what = {"subject": subject, "description": text, "category": topic, "team": "Customer care"}
        what["priority"] = "high" if hours == 4 else "normal"
        tell = self.on("service", person.email, f"case:{case}", f"order:{order}")
        tell("case.opened", self.soon(opened, 30, 300), shared, what, due, agent=None)
        tell = self.on("service", f"case:{case}")  # from here on the service desk names the case only
        tell(
            "case.assigned", self.soon(opened, 310, 2400), shared, team="Customer care", reason="round_robin"
        )
        reply_s = 2500 + round(self.dice.lognormvariate(9.0, 0.9))
        replied = opened + timedelta(seconds=reply_s)
        answer = self.on("service", f"case:{case}", direction="outbound", **_contract("service.case"))
        answer("case.replied", replied, shared, author="agent", text=ANSWERS[language], reply_s=reply_s)
        if way == "email":
            mail = self.on("mail", person.email, f"case:{case}", **_contract("service.case"))
            letter = {"contact": person.email, "thread_id": f"thread-{case}", "body": ANSWERS[language]}
            mail("email.sent", self.soon(replied, 1, 20), shared, letter, subject=f"Re: {subject}")
        if reply_s > hours * 3600 or self.chance(0.07):
            reason = "reply_overdue" if reply_s > hours * 3600 else "complaint"
            tell("case.escalated", self.soon(replied, 60, 4000), shared, level="second", reason=reason)
        self._case_ends(person, shared, topic, opened, replied)

    def _asked(
        self, person: _Person, way: str, at: datetime, topic: str, subject: str, text: str, shared: Data
    ) -> None:
        """How the customer turned to us."""
        case = f"case:{shared['case_id']}"
        if way == "phone":
            self._call(person, at, topic, shared)
        elif way == "chat":
            self._chat(person, person.devices[0], at, text, shared)
        else:
            sender = self.dice.choice(person.emails)
            letter: Data = {
                "from_address": sender,
                "subject": subject,
                "body": text,
                "language": person.country.language,
            }
            letter["message_id"] = f"<{self.dice.getrandbits(48):x}@example.com>"
            if topic == "damaged":
                sizes = [self.dice.randint(200_000, 3_000_000) for _ in range(2)]
                photos = [{"name": f"photo{n}.jpg", "size_bytes": size} for n, size in enumerate(sizes, 1)]
                letter["attachments"] = [{**photo, "media_type": "image/jpeg"} for photo in photos]
            tell = self.on(
                "mail", f"email:{sender}", "" if sender == person.emails[0] else person.email, case
            )
            mailbox = {"mailbox": "care@harbourvale.example", "thread_id": f"thread-{shared['case_id']}"}
            tell("email.received", at, shared, letter, mailbox, agent=None)

    def _call(self, person: _Person, at: datetime, topic: str, shared: Data) -> None:
        wait_s, talk_s = round(self.dice.expovariate(1 / 70)), round(self.dice.lognormvariate(5.4, 0.6))
        number, queue = self.dice.choice(person.phones), f"care-{person.country.language}"
        call = {"conversation_id": self.serial("call-", 300_001), "from_number": number}
        tell = self.on("telephony", f"phone:{number}", direction="inbound")
        tell("call.started", at, call, queue=queue, to_number="+441614960000")
        if self.chance(0.08):
            tell(
                "call.transferred",
                self.soon(at, 60, 200),
                call,
                to_queue="specialists",
                reason="needs_specialist",
            )
        done = at + timedelta(seconds=wait_s + talk_s)
        talk = {
            "duration_s": talk_s,
            "wait_s": wait_s,
            "queue": queue,
            "reason": topic,
            "summary": SUMMARIES[topic][0],
        }
        known = person.email if shared.get("case_id") or self.chance(0.5) else ""
        ended = self.on("telephony", f"phone:{number}", known, direction="inbound")
        ended(
            "call.ended", done, shared, call, talk, outcome=self.one_of("resolved resolved callback_agreed")
        )
        if self.chance(0.1):
            sound = {"recording": f"recordings/{call['conversation_id']}.ogg", "size_bytes": talk_s * 4000}
            tell("call.recorded", self.soon(done, 60, 400), call, sound, duration_s=talk_s)

    def _chat(
        self, person: _Person, device: str, at: datetime, text: str = "", shared: Data | None = None
    ) -> None:
        """From the help page; whoever asks about an order says who they are."""
        language = person.country.language
        about = (
            {"agent": self.dice.choice(AGENTS)}
            | (shared or {})
            | {"conversation_id": self.serial("chat-", 80_001)}
        )
        case = f"case:{shared['case_id']}" if shared else ""
        named = [person.email] if shared or self.chance(0.4) else []
        tell, lasted = self.on("chat", *named, device, case), self.soon(at, 210, 900)
        topic = "order" if shared else "product"
        tell("chat.started", at, about, topic=topic, path="/help", wait_s=round(self.dice.uniform(2, 90)))
        said = text or TOPICS["product"][language][1]
        self.on("chat", device)(
            "chat.message_received", self.soon(at, 5, 60), about, text=said, language=language
        )
        answer = self.on("chat", device, **_contract("service.chat"))
        answer("chat.message_sent", self.soon(at, 70, 200), about, text=ANSWERS[language])
        whole = {
            "duration_s": round((lasted - at).total_seconds()),
            "message_count": self.dice.randint(3, 14),
        }
        tell("chat.ended", lasted, about, whole, outcome="answered")
        if self.chance(0.3):
            self._survey(person, "ces", "chat", self.soon(lasted, 20, 60), about, usual=5.4)

    def _case_ends(
        self, person: _Person, shared: Data, topic: str, opened: datetime, replied: datetime
    ) -> None:
        summary, resolution = SUMMARIES[topic]
        desk = self.on("service", f"case:{shared['case_id']}")
        customer = self.on("service", person.email, f"case:{shared['case_id']}", direction="inbound")
        if self.chance(0.3):
            customer(
                "case.replied",
                self.soon(replied, 3000, 90_000),
                shared,
                author="customer",
                text="👍",
                agent=None,
            )
        solved = self.later(replied, 0.1, 4, "desk")
        outcome = {**shared, "resolution": resolution, "summary": summary}
        desk("case.resolved", solved, outcome, resolution_s=round((solved - opened).total_seconds()))
        if self.chance(0.09):
            again = self.later(solved, 1, 3, "desk")
            customer("case.reopened", again, shared, reason="not_solved")
            solved = self.later(again, 0.5, 2, "desk")
            desk("case.resolved", solved, outcome, resolution_s=round((solved - opened).total_seconds()))
        closed = solved + timedelta(days=3)
        desk("case.closed", closed, shared, reason="solved", open_s=round((closed - opened).total_seconds()))
        if self.chance(0.55):
            self._survey(person, "csat", "case", self.soon(solved, 3600, 7200), shared, usual=4.1)

    def _survey(
        self, person: _Person, metric: str, about: str, at: datetime, shared: Data, *, usual: float
    ) -> None:
        best = {"csat": 5, "nps": 10, "ces": 7}[metric]
        asked = {**shared, "metric": metric, "about": about, "survey_id": f"{metric}-{about}"}
        asked["invitation_id"] = self.serial("inv-", 1)
        basis = {"purpose": "service.feedback", "legalbasis": "legitimate_interests", "channel": "email"}
        self.on("surveys", person.email, **basis)("survey.sent", at, asked, contact=person.email)
        if not self.chance(0.48):
            return
        score = max(0 if metric == "nps" else 1, min(best, round(self.dice.gauss(usual, best / 5))))
        praise, blame = COMMENTS[person.country.language]
        comment = self.dice.choice(praise if score >= usual else blame) if self.chance(0.4) else ""
        answered = self.soon(at, 300, 200_000)
        self.on("surveys", person.email)(
            "survey.answered", answered, asked, score=score, best_score=best, comment=comment
        )

    def _enquiry(self, person: _Person) -> None:
        """A call about nothing that was ordered."""
        self._call(person, self.day(person.joined_at, "desk"), "product", {"agent": self.dice.choice(AGENTS)})

    def _missed_call(self, person: _Person) -> None:
        """Nobody answered; we called back."""
        at, conversation = self.day(person.joined_at, "desk"), self.serial("call-", 300_001)
        call = {"conversation_id": conversation, "wait_s": self.dice.randint(90, 600), "reason": "abandoned"}
        self.on("telephony", person.phone)(
            "call.missed", at, call, from_number=person.phones[0], queue="care-en"
        )
        talk_s = self.dice.choice((0, 0, 95, 240, 410))
        back = {"conversation_id": conversation, "contact": person.phone, "to_number": person.phones[0]}
        tell = self.on("telephony", person.phone, direction="outbound", **_contract("service.callback"))
        outcome = "answered" if talk_s else "no_answer"
        agent = self.dice.choice(AGENTS)
        tell(
            "call.ended",
            self.later(at, 0.05, 0.8, "desk"),
            back,
            duration_s=talk_s,
            outcome=outcome,
            agent=agent,
        )

    def _question_by_whatsapp(self, person: _Person) -> None:
        at, language, contact = self.day(person.joined_at, "web"), person.country.language, person.whatsapp
        shared = {"conversation_id": self.serial("wa-", 9001), "service": "whatsapp"}
        tell = self.on("whatsapp", contact, person.email if self.chance(0.7) else "", channel="whatsapp")
        said = {"text": TEXTS["open"][language], "language": language}
        tell("message.received", at, shared, said, from_number=person.phones[0])
        answer = self.on("whatsapp", contact, channel="whatsapp", **_contract("service.question"))
        text, agent = TEXTS["hours"][language], self.dice.choice(AGENTS)
        answer("message.sent", self.soon(at, 200, 4000), shared, contact=contact, text=text, agent=agent)

    # --- selling --------------------------------------------------------------------------------------------

    def _sale(self, person: _Person) -> None:
        """A company furnishes its rooms: from lead to quote, won or lost."""
        at, how = self.day(person.joined_at, "desk"), self.one_of("web_form trade_fair referral")
        shared = {"lead_id": self.serial("L-", 601), "agent": self.dice.choice(SELLERS)}
        if how == "web_form":
            fields = {"name": person.name, "company": person.company, "email": person.emails[0]}
            tell = self.on("web", person.email, person.devices[0])
            tell("web.form_submitted", at, form="business_enquiry", path="/business", fields=fields)
        who = {"name": person.name, "company": person.company, "lead_source": how, "interest": "furnishing"}
        found = self.soon(at, 60, 4000)
        self.on("crm", person.crm, person.email, person.phone)(
            "lead.captured", found, shared, who, agent=None
        )
        tell = self.on("crm", person.crm)
        tell("lead.assigned", self.soon(found, 60, 9000), shared, territory=person.country.code)
        at, good = self.later(found, 1, 6, "desk"), self.chance(0.65)
        tell("lead.qualified", at, shared, qualified=good, rating="warm" if good else "cold")
        if not good:
            return
        shared["opportunity_id"] = self.serial("O-", 401)
        deal: Data = {"amount_minor": self.dice.randrange(200_000, 4_000_000, 5_000)}
        deal |= {
            "currency": person.country.currency,
            "opportunity": f"{person.company}: {self.dice.choice(ROOMS)}",
        }
        at = self.soon(at, 60, 900)
        tell("opportunity.opened", at, shared, deal, stage="discovery", probability_pct=20)
        at = self.later(at, 2, 12, "desk")
        other = f"{self.dice.choice(person.country.first)} {self.dice.choice(person.country.last)}"
        guest = {"ref": f"email:facilities{person.number}@example.org", "name": other, "role": "facilities"}
        met: Data = {
            "meeting_id": self.serial("M-", 501),
            "subject": "Measuring up and samples",
            "participants": [guest],
        }
        met |= {
            "store": self.dice.choice(STORES[person.country.code]),
            "duration_s": 300 * self.dice.randint(6, 24),
        }
        self.on("crm", person.crm, person.email)("meeting.held", at, shared, met)
        self._quote(person, shared, deal, at)

    def _quote(self, person: _Person, shared: Data, deal: Data, at: datetime) -> None:
        tell, quote = self.on("crm", person.crm), self.serial("Q-", 801)
        at = self.later(at, 1, 7, "desk")
        moved = {"stage": "quote", "stage_before": "discovery", "probability_pct": 50}
        tell("opportunity.stage_changed", at, shared, deal, moved)
        money: Data = {"amount_minor": deal["amount_minor"], "currency": deal["currency"]}
        money["line_count"] = self.dice.randint(3, 18)
        offer = {"quote_id": quote, "discount_pct": self.dice.choice((0, 5, 10)), "contact": person.email}
        send = self.on("crm", person.crm, person.email, channel="email", **_contract("sales.quote"))
        valid_until = _text(at + timedelta(days=30))
        send("quote.sent", self.soon(at, 60, 3000), shared, money, offer, valid_until=valid_until)
        follow = shared | {"followup_id": f"F-{quote[2:]}", "quote_id": quote, "task": "call"}
        tell("followup.scheduled", self.soon(at, 3100, 4000), follow, due_at=_text(at + timedelta(days=5)))
        at = self.later(at, 4, 8, "desk")
        tell("followup.done", at, follow, outcome="asked_for_changes", note="Wants the chairs in walnut")
        at = self.later(at, 3, 20, "desk")
        moved = {"stage": "negotiation", "stage_before": "quote", "probability_pct": 70}
        tell("opportunity.stage_changed", at, shared, deal, moved)
        at = self.later(at, 2, 15, "desk")
        if self.chance(0.55):
            order = self.serial("HV-", 100_001)
            tell("opportunity.won", at, shared, deal, order_id=order, probability_pct=100)
            buy = self.on("shop", person.crm, person.email, f"order:{order}", channel="sales")
            placed = {"order_id": order, "payment_method": "invoice", "agent": shared["agent"]}
            buy("order.placed", self.soon(at, 600, 9000), money, placed)
        else:
            reason = self.one_of("price timing competitor")
            rival = "Nordlund" if reason == "competitor" else None
            tell("opportunity.lost", at, shared, deal, reason=reason, competitor=rival)

    def _subscription(self, person: _Person) -> None:
        """Coffee, every month, until it is too much."""
        at, months = self.day(person.joined_at, "web"), self.dice.randint(1, 12)
        plan: Data = {
            "subscription_id": self.serial("SUB-", 1201),
            "plan": "Coffee club",
            "interval": "month",
        }
        plan |= {"amount_minor": self.dice.choice((1490, 1990, 2490)), "currency": person.country.currency}
        renews_at = _text(at + timedelta(days=30))
        self.on("shop", *person.shopper())("subscription.started", at, plan, renews_at=renews_at)
        tell = self.on("shop", person.email)
        for month in range(1, months):
            tell("subscription.renewed", at + timedelta(days=30 * month), plan)
        if self.chance(0.6):
            reason = self.one_of("too_much_coffee price card_expired")
            tell("subscription.ended", at + timedelta(days=30 * months), plan, reason=reason)

    def _moved(self, person: _Person) -> None:
        """A new address; and sometimes the old number goes to somebody else."""
        at = self.day(person.joined_at, "web")
        city, street = self.dice.choice(person.country.cities), self.dice.choice(person.country.streets)
        traits = {"city": city, "address": f"{self.dice.randint(1, 99)} {street}"}
        tell = self.on("shop", person.user or person.email)
        tell(
            "profile.updated", at, identifiers={"email": person.emails}, traits=traits, method="account_page"
        )
        if self.chance(0.15):
            lost = {"contact": person.phone, "method": "carrier_notice", "controller": CONTROLLER}
            self.on("consents")("contact.reassigned", self.later(at, 20, 60, "desk"), lost)

    # --- visitors whom nobody knows, and devices that two persons share --------------------------------------

    def _strangers(self, number: int) -> None:
        """Visitors who never say who they are."""
        for _ in range(number):
            visit = _Visit(
                f"s-{self.dice.getrandbits(40):010x}", f"anonymous:{self.dice.getrandbits(64):016x}"
            )
            self._browse(None, visit, self.day(self.start, "web"))

    def _shared_devices(self) -> None:
        """A tablet in the kitchen: two accounts sign in on one device, and stay two persons."""
        known = [p for p in self.persons if p.known_at is not None][:24]
        for one, other in zip(known[::2], known[1::2], strict=False):
            at = self.day(max(one.known_at or self.start, other.known_at or self.start), "web")
            self.on("web", other.user, one.devices[0])(
                "web.signed_in", at, method="password", device="tablet"
            )

    # --- consent --------------------------------------------------------------------------------------------

    def _notice(self, name: str, version: str, language: str) -> Data:
        text = f"[{language}] {NOTICES[name, version][2]}"
        named = {"id": name, "version": version, "language": language}
        return {**named, "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def _notices(self) -> None:
        """Texts come into use, and one changes so much that what was given under it ends."""
        tell = self.on("consents")
        for (name, version), (day, purpose, text) in NOTICES.items():
            at = self.start + timedelta(days=day, hours=8)
            for language in LANGUAGES:
                shown = {"notice": self._notice(name, version, language), "text": f"[{language}] {text}"}
                shown |= {"title": f"{name.capitalize()}, version {version}", "purposes": [purpose]}
                tell("notice.published", at, shown, controller=CONTROLLER)
            if version == "2":
                change = {"notice": {"id": name, "version": "1"}, "by": {"id": name, "version": "2"}}
                material = name == "offers"
                tell(
                    "notice.superseded",
                    self.soon(at, 60, 600),
                    change,
                    material=material,
                    controller=CONTROLLER,
                )

    def _consents(self, person: _Person) -> None:
        if self.chance(0.66):
            self._consent(person, NEWS, "email", person.email, "newsletter")
        elif self.chance(0.3):
            self._refused(person)
        if self.chance(0.4):
            self._consent(person, OFFERS, "email", person.email, "offers")
        if self.chance(0.2):
            self._consent(person, OFFERS, "sms", person.phone, "offers")
        if self.chance(0.06):
            self._consent(person, OFFERS, "whatsapp", person.whatsapp, "offers")
        if person.user and self.chance(0.15):
            self._consent(person, PROFILING, "web", person.email, "profiling")
        if self.chance(0.015):
            at = self.day(person.joined_at, "desk")
            all_of_it = {"purpose": "*", "channel": "*", "controller": CONTROLLER, "method": "letter"}
            self.on("consents", person.email)(
                "consent.objected", at, all_of_it, jurisdiction=person.country.code
            )
            for words in person.wishes.values():
                words.append((at, False))

    def _fact(self, person: _Person, purpose: str, channel: str, contact: str) -> Data:
        scope = {"contact": contact, "purpose": purpose, "channel": channel}
        return {**scope, "controller": CONTROLLER, "jurisdiction": person.country.code}

    def _shown(self, person: _Person, name: str, at: datetime) -> Data:
        """The notice that was in use at *at*."""
        newer = NOTICES.get((name, "2"))
        version = "2" if newer and at >= self.start + timedelta(days=newer[0], hours=8) else "1"
        return {"legal_basis": "consent", "notice": self._notice(name, version, person.country.language)}

    def _refused(self, person: _Person) -> None:
        at = self.day(person.joined_at, "web")
        asked = self._fact(person, NEWS, "email", person.email) | self._shown(person, "newsletter", at)
        tell = self.on("consents", person.email)
        tell("consent.requested", at, asked, method="checkout")
        if self.chance(0.6):
            tell("consent.refused", self.soon(at, 20, 200), asked, method="checkout")

    def _consent(self, person: _Person, purpose: str, channel: str, contact: str, notice: str) -> None:
        """One consent, from giving to taking back, proven as the way of giving allows."""
        at = self.day(person.joined_at, "web")
        method = self.one_of("form form form form checkout checkout call paper")
        scope = self._fact(person, purpose, channel, contact)
        given = scope | self._shown(person, notice, at) | {"method": method}
        online = method in {"form", "checkout"}
        given["evidence"] = (
            {"page": f"{SHOP}/{method}"} if online else f"{method} of {at:%Y-%m-%d}, in the archive"
        )
        if self.chance(0.3):
            given["valid_until"] = _text(at + timedelta(days=self.dice.choice((180, 365, 730))))
        # What was signed on paper is typed in weeks later: mails in between could not be proven when sent.
        typed_in_at = self.later(at, 9, 45, "desk") if method == "paper" else None
        twice = method == "form" and channel == "email" and person.country.code != "GB"
        tell = self.on("consents", contact, person.user if online else "")
        fact = tell(
            "consent.given", at, given, typed_in_at=typed_in_at, double_opt_in=True if twice else None
        )
        if twice:
            ask = {
                "contact": contact,
                "subject": MAILS["confirm"][person.country.language],
                "template": "confirm",
            }
            basis = {"purpose": "service.confirmation", "legalbasis": "legal_obligation"}
            self.on("mail", contact, **basis)("email.sent", self.soon(at, 5, 30), ask)
            if self.chance(0.14):
                return  # never confirmed
            at = self.soon(at, 60, 90_000)
            proof = {"method": "link", "evidence": "confirmation link followed"}
            self.on("consents", contact)("consent.confirmed", at, proof, of=_of("consents", fact))
        words = person.wishes.setdefault((purpose, channel, contact), [])
        words.append((at, True))
        self._change_of_mind(person, scope, given, fact, at, words)

    def _change_of_mind(
        self, person: _Person, scope: Data, given: Data, fact: str, at: datetime, words: list[_Word]
    ) -> None:
        """What becomes of a consent; most stay as they are."""
        fate, then = self.dice.random(), self.later(at, 20, 300, "web")
        tell = self.on("consents", scope["contact"])
        if fate < 0.13:
            self._withdrawn(person, scope, then)
            words.append((then, False))
        elif fate < 0.19:
            tell("consent.renewed", then, given, method="account", evidence="preference page")
            words.append((then, True))
        elif fate < 0.205:
            tell("consent.revoked", then, scope, reason="hard_bounces", method="rule", actor="list hygiene")
            words.append((then, False))
        elif fate < 0.22:
            tell("consent.invalidated", then, of=_of("consents", fact), reason="box_was_ticked_beforehand")
            words.append((then, False))
        elif fate < 0.235:
            patch = {"method": "call", "evidence": "recording found"}
            tell("consent.corrected", then, of=_of("consents", fact), patch=patch, reason="typing_error")

    def _withdrawn(self, person: _Person, scope: Data, at: datetime) -> None:
        """By a click, a word, or a letter that lay about for a while."""
        channel, contact = scope["channel"], scope["contact"]
        letter = self.chance(0.12)
        method = "letter" if letter else {"email": "one_click", "sms": "stop_word"}.get(channel, "account")
        typed_in_at = self.later(at, 3, 20, "desk") if letter else None
        if method == "one_click":
            left = {"contact": contact, "list_id": scope["purpose"], "method": method}
            self.on("mail", contact)("email.unsubscribed", at, left)
        elif method == "stop_word":
            self.on("sms", contact)("sms.received", at, from_number=person.phones[0], text="STOP")
        tell = self.on("consents", contact)
        fact = tell("consent.withdrawn", self.soon(at, 0.1, 2), scope, typed_in_at=typed_in_at, method=method)
        self.withdrawn[contact] = fact

    # --- campaigns ------------------------------------------------------------------------------------------

    def _themed(self, campaign: _Campaign) -> _Campaign:
        """With the name and subject of its month."""
        name, subject = THEMES[(self.start + timedelta(days=campaign.day)).month - 1]
        return campaign._replace(name=name, subject=subject)

    def _campaigns_launched(self) -> None:
        for campaign in self.campaigns:
            at = self.start + timedelta(days=campaign.day, hours=8)
            plan = {"goal": "orders", "budget_minor": 150_000, "currency": "GBP", "segment": campaign.way}
            self.on("campaigns")("campaign.launched", at, campaign.named(), plan)

    def _campaign(self, campaign: _Campaign) -> None:
        """To those who agreed, and by mistake to some who did not."""
        began = self.start + timedelta(days=campaign.day, hours=9)
        channel = {"newsletter": "email", "offer": "email"}.get(campaign.way, campaign.way)
        for person in self.persons:
            contact = {"email": person.email, "sms": person.phone, "whatsapp": person.whatsapp}[channel]
            wanted = person.wants(campaign.purpose, channel, contact, began)
            if person.joined_at > began or not self.chance(0.85 if wanted else 0.012):
                continue
            if campaign.way == "whatsapp" or self.chance(0.05):
                tell = self.on("campaigns", contact)
                added = began - timedelta(hours=3)
                tell("campaign.member_added", added, campaign.named(), segment=campaign.way)
            self._send(person, contact, campaign, self.soon(began, 0, 3600))

    def _send(self, person: _Person, contact: str, campaign: _Campaign, at: datetime) -> None:
        """One message; a sender looks at the consents just before, or has an old list."""
        language = person.country.language
        message = {"contact": contact, "message_id": f"<{self.serial('m', 1)}@mail.harbourvale.example>"}
        purpose = {"purpose": campaign.purpose} if self.chance(0.995) else {}  # now and then it is forgotten
        looked = "now" if self.chance(0.8) else self.withdrawn.get(contact, "now")
        offer = {"text": TEXTS["offer"][language], "offer": campaign.name}
        if campaign.way == "sms":
            text = {"text": TEXTS["offer"][language], "to_number": person.phones[0], "part_count": 1}
            tell = self.on("sms", contact, **purpose)
            tell("sms.sent", at, message, text, snapshot=looked, campaign_id=campaign.id)
        elif campaign.way == "whatsapp":
            tell = self.on("campaigns", contact, channel="whatsapp", **purpose)
            tell("campaign.message_sent", at, message, campaign.named(), offer, snapshot=looked)
        elif campaign.way == "offer":
            tell = self.on("campaigns", contact, channel="email", **purpose)
            tell(
                "campaign.message_sent",
                at,
                message,
                campaign.named(),
                offer,
                snapshot=looked,
                subject=campaign.subject,
            )
        else:
            letter = {"subject": campaign.subject, "template": "newsletter", "language": language}
            tell = self.on("mail", contact, **purpose)
            tell("email.sent", at, message, letter, snapshot=looked, campaign_id=campaign.id)
        self._response(person, message, campaign, at)

    def _response(self, person: _Person, message: Data, campaign: _Campaign, at: datetime) -> None:
        if campaign.way in {"newsletter", "offer"}:
            clicked = self._read(message | {"campaign_id": campaign.id, "subject": campaign.subject}, at)
        else:
            clicked = self.soon(at, 60, 9000) if self.chance(0.06) else None
        if clicked is None:
            return
        tell = self.on("campaigns", message["contact"])
        about = campaign.named() | {"message_id": message["message_id"]}
        tell("campaign.responded", clicked, about, response="clicked")
        self._web_visit(person, self.soon(clicked, 1, 5))

    def _read(self, mail: Data, at: datetime) -> datetime | None:
        """What becomes of a mail; when its link was followed, if it was."""
        tell = self.on("mail", mail["contact"])
        if self.chance(0.02):
            reason = {"bounce": "permanent", "reason": "unknown_user", "smtp_code": "5.1.1"}
            tell("email.bounced", self.soon(at, 2, 60), mail, reason)
            return None
        if self.chance(0.25):
            tell("email.delivered", self.soon(at, 1, 30), mail)
        if not self.chance(0.3):
            return None
        opened = self.soon(at, 300, 90_000)
        tell("email.opened", opened, mail)
        if self.chance(0.006):
            tell("email.complained", self.soon(opened, 5, 60), mail)
        if not self.chance(0.22):
            return None
        clicked = self.soon(opened, 5, 120)
        url = f"{SHOP}/?utm_source=newsletter&utm_medium=email&utm_campaign={mail['campaign_id']}"
        tell("email.clicked", clicked, mail, url=url, link="hero")
        return clicked

    def _corrections(self) -> None:
        """Telephony once counted some waiting as talking."""
        calls = (told.event for told in self.events if told.event["type"] == "call.ended")
        for event in [call for call in calls if call["data"].get("wait_s", 0) > 200][:8]:
            talk_s = max(event["data"]["duration_s"] - 60, 1)
            patch = {"data": {**event["data"], "duration_s": talk_s}}
            at = datetime.fromisoformat(event["time"]) + timedelta(days=2)
            of = {"source": event["source"], "id": event["id"]}
            self.on("telephony")(
                "correction.recorded", at, of=of, patch=patch, reason="waiting_counted_as_talking"
            )


class _Teller:
    """Adds events of one system about one customer to the list, unless they have not happened yet."""

    def __init__(self, retailer: _Retailer, source: str, refs: list[str], extensions: dict[str, str]) -> None:
        self._retailer = retailer
        self._source = source
        self._named: Data = {"subject": refs[0]} if refs else {}
        if len(refs) > 1:
            self._named["identifiers"] = ",".join(refs[1:])
        self._named.update(extensions)

    def __call__(
        self,
        kind: str,
        at: datetime,
        *shared: Data,
        typed_in_at: datetime | None = None,
        snapshot: str | None = None,
        **data: Any,
    ) -> str:
        """Add one event; answers with its id.

        Args:
            typed_in_at: when it was sent, if not at once.
            snapshot: "now", or the id of an event just before which the sender looked at the consents.
        """
        name = self._retailer.serial(f"{self._source}-", 100_001)
        if at >= self._retailer.now:
            return name
        whole: Data = {}
        for part in (*shared, data):
            whole.update(part)
        event: Event = {
            "specversion": "1.0",
            "id": name,
            "source": f"demo/{self._source}",
            "type": kind,
            "time": _text(at),
            **self._named,
            "data": {field: value for field, value in whole.items() if value is not None and value != ""},
        }
        arrives_at = at if typed_in_at is None else min(typed_in_at, self._retailer.now)
        events = self._retailer.events
        events.append(_Told(arrives_at, len(events), event, snapshot))
        return name


def _contract(purpose: str) -> dict[str, str]:
    """A message that an order or a question of the customer's calls for."""
    return {"purpose": purpose, "legalbasis": "contract"}


def _of(source: str, fact: str) -> Data:
    return {"source": f"demo/{source}", "id": fact}


def _sum(lines: list[Data]) -> int:
    return sum(line["quantity"] * line["unit_price_minor"] for line in lines)
