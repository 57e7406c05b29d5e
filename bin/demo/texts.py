"""What is written: by customers and to them, in four languages; notices of consent; campaigns."""

from __future__ import annotations

from typing import NamedTuple

from bin.demo.catalogue import NEWS, OFFERS, PROFILING, Data

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


class Campaign(NamedTuple):
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
    Campaign("CMP-01", 40, "newsletter", NEWS),
    Campaign("CMP-02", 85, "newsletter", NEWS),
    Campaign("CMP-03", 120, "offer", OFFERS),
    Campaign("CMP-04", 160, "sms", OFFERS),
    Campaign("CMP-05", 205, "newsletter", NEWS),
    Campaign("CMP-06", 250, "offer", OFFERS),
    Campaign("CMP-07", 300, "newsletter", NEWS),
    Campaign("CMP-08", 345, "newsletter", NEWS),
    Campaign("CMP-09", 375, "sms", OFFERS),
    Campaign("CMP-10", 405, "whatsapp", OFFERS),
    Campaign("CMP-11", 440, "newsletter", NEWS),
    Campaign("CMP-12", 480, "offer", OFFERS),
    Campaign("CMP-13", 520, "offer", OFFERS),
    Campaign("CMP-14", 540, "newsletter", NEWS),
]
