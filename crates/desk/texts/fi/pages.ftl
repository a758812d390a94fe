# Signing in.
sign-in-title = Kirjaudu sisään
sign-in-lead = Työpöydällä kysyt etuustietoja, vastaat tietopyyntöihin ja lähetät asiakirjoja. Jokainen katselu ja lähetys kirjataan nimelläsi.
sign-in-go = Kirjaudu organisaatiosi tunnuksella
sign-in-dev = Tämä on kehitysympäristö: kaikki henkilöt ja tiedot ovat keksittyjä. Valitse, kenenä kokeilet.
draft-title = Kirjoittamasi on tallella
draft-lead = Istuntosi päättyi ennen kuin lomake ehdittiin lähettää. Voit jatkaa siitä, mihin jäit.
draft-go-on = Jatka lomakkeeseen
draft-drop = Hylkää

# Today.
today-title = Tänään
today-requests = Tietopyynnöt, jotka odottavat teitä ({ $count })
today-overdue =
    { $count ->
        [one] Yksi on myöhässä
       *[other] { $count } on myöhässä
    }
today-no-requests = Yksikään tietopyyntö ei odota.
today-notices = Käsittelemättömät ilmoitukset ({ $count })
today-no-notices = Uusia ilmoituksia ei ole.
today-documents = Käsittelemättömät asiakirjat ({ $count })
today-no-documents = Uusia asiakirjoja ei ole.
today-query = Tee etuuskysely
all-requests = Kaikki tietopyynnöt
all-notices = Kaikki ilmoitukset
all-documents = Kaikki asiakirjat

# Lists.
list-incomplete = Lista ei ole vielä täydellinen: pyyntöjä haetaan.
list-count =
    { $count ->
        [0] Ei yhtään.
        [one] Yksi.
       *[other] { $count } kappaletta.
    }
table-requests = Tietopyynnöt
table-notices = Ilmoitukset
table-documents = Asiakirjat
table-sent = Lähetetyt asiakirjat
col-request = Pyyntö
col-counterpart = Toinen osapuoli
col-state = Tila
col-due = Määräpäivä
col-claim = Käsittelijä
col-item = Aihe
col-sender = Lähettäjä
col-arrived = Saapunut
col-file = Tiedosto
col-recipient = Vastaanottaja
col-sent = Lähetetty
col-official = Virkailija
overdue = Myöhässä
unread = Lukematon
unclaimed = Vapaa
read-by-responder = Vastaaja on lukenut
handled-at = Käsitelty { $name }
tab-waiting = Odottaa meitä
tab-elsewhere = Odottaa toista
tab-ended = Päättyneet
tab-all = Kaikki
tab-arrived = Saapuneet
tab-handled = Käsitellyt
tab-sent = Lähetetyt
sort = Järjestys:
sort-due = määräpäivä
sort-changed = viimeksi muuttunut
sort-kind = pyynnön laji
sort-counterpart = toinen osapuoli
filter-all = Kaikki
filter-mine = Vain omani
filter-show = Näytä

# Claims.
claim = Ota käsittelyyn
release = Vapauta muille
take-over = Ota minulle
claimed-by-me = Sinä olet käsittelijä, { $name } alkaen.
claimed-by = Käsittelijä on { $name }, { $time } alkaen.
claimed-by-nobody = Kukaan ei vielä käsittele tätä.
handle = Merkitse käsitellyksi
reopen = Palauta käsiteltäväksi

# Information requests.
requests-title = Tietopyynnöt
find-title = Etsi henkilön tietopyynnöt
find-lead = Haku kirjataan lokiin.
find-send = Etsi
request-new-title = Uusi tietopyyntö
request-new-lead = Pyydä vain sitä, mitä päätöksen tekeminen vaatii.
request-new-send = Lähetä pyyntö
request-respond = Vastaa
request-respond-title = Vastaa tietopyyntöön
request-respond-send = Lähetä vastaus
request-return = Palauta täydennettäväksi
request-return-title = Palauta täydennettäväksi
request-return-send = Palauta pyyntö
request-close = Sulje
request-close-title = Sulje tietopyyntö
request-close-send = Sulje pyyntö
request-transfer = Siirrä oikealle taholle
request-transfer-title = Siirrä tietopyyntö
request-transfer-send = Siirrä pyyntö
request-cancel = Peru
request-cancel-title = Peru tietopyyntö
request-cancel-send = Peru pyyntö
request-news = Pyynnössä on uutta. Näytä.
request-id = Pyynnön tunnus
request-person = Henkilö
request-case = Asia teillä
request-requester = Pyytäjä
request-responder = Vastaaja
request-state = Tila
request-due = Määräpäivä
request-created = Lähetetty
request-read = Luettu
request-answered = Vastattu
request-contact = Yhteys toiseen osapuoleen
request-progress = Pyynnön kulku
request-pdf = Tallenna PDF asiakirjavihkoon
request-all-documents = Lataa kaikki asiakirjat
request-history = Tapahtumat
progress-delivered = Toimitettu
progress-read = Luettu
progress-answered = Vastattu
progress-not-yet = ei vielä
step-created = Pyyntö lähetettiin
step-responded = Pyyntöön vastattiin
step-returned = Pyyntö palautettiin täydennettäväksi
step-closed = Pyyntö suljettiin
step-transferred = Pyyntö siirrettiin
step-cancelled = Pyyntö peruttiin
step-other = Muu tapahtuma
step-question = Mitä pyydetään
step-background = Taustaa
step-period = Ajalta
step-due = Määräpäivä
step-answer = Vastaus
step-missing = Mitä puuttuu
step-remark = Huomautus
step-reason = Syy
step-to = Kenelle
step-documents = Asiakirjat
case-file-made = Tulostanut { $name } { $time }.
attach-title = Liitteet
attach-send = Liitä tiedostot

# Documents.
documents-title = Asiakirjat
document-new-title = Lähetä asiakirjoja
document-new-lead = Lähetä asiakkaan asiakirjat hänen pyynnöstään. Tiedostot säilyttävät nimensä.
document-new-send = Lähetä
document-kind = Laji
document-case = Lähettäjän asia
document-format = Muoto ja koko
document-opened = Avattu ensi kerran
document-download = Lataa
document-view = Avaa uuteen välilehteen
document-unnamed = Asiakirja, joka ei ole vielä saapunut tälle työpöydälle
upload-progress = Lähetetään tiedostoja
upload-broke = Lähetys katkesi. Tiedot ovat tallella: yritä uudelleen.
upload-uploading = Kesken
upload-held = Odottaa tarkastusta
upload-stored = Toimitettu
upload-fetched = Noudettu
upload-rejected = Hylätty
upload-expired = Vanhentunut
upload-erased = Poistettu
state-unknown = Ei tiedossa juuri nyt

# Notices.
notices-title = Ilmoitukset
notice-content = Ilmoituksen sisältö
notice-request = Avaa tietopyyntö
non-disclosure = Henkilöllä on turvakielto: osoitetta ja yhteystietoja ei näytetä.

# Benefit query.
queries-title = Etuuskysely
query-lead = Kysy vain tehtävääsi varten. Kysely ja vastaus kirjataan.
query-send = Kysy
query-again = Uusi kysely
query-reason = { $purpose } ({ $act })
query-answer = Henkilön { $name } etuudet
query-case = asia { $name }
query-next-payment = Seuraava maksu
query-nothing = Ei ole mitään, mitä sopimuksenne mukaan saatte nähdä.
query-withheld = Mitä ei näytetä ja miksi
query-record = Kirjattu lokiin: { $name }
withheld-contract = sopimuksenne ei kata näitä tietoja tällä perusteella
withheld-benefits = vain sopimuksessa nimetyt etuudet näytetään
withheld-window = vain sopimuksen mukainen aika näytetään
matter-filed = Hakemus saapunut
matter-applied-from = Haettu alkaen
matter-stage = Käsittelyvaihe
matter-decided = Päätetty
matter-outcome = Ratkaisu
matter-in-force = Voimassa
matter-monthly = Kuukaudessa
matter-due = Maksupäivä
matter-net = Maksetaan
matter-gross = Ennen veroa
matter-for = Ajalta
matter-insured = Vakuutettu
matter-total = Takaisinperittävä yhteensä
matter-remaining = Jäljellä
matter-year = Vuosi
matter-accrued = Kertynyt
matter-limit = Vuosiomavastuu
matter-reached = Täyttynyt

# The log.
log-title = Oma loki
log-lead = Mitä olet katsonut ja tehnyt. Viimeinen sarake näyttää sanomanvälityksen tietueen, josta tarkastaja voi todentaa saman.
users-log-title = Käyttäjien loki
users-log-lead = Mitä organisaatiosi virkailijat ovat katsoneet ja tehneet. Myös tämän lokin katselu kirjataan.
users-log-all = Näytä kaikki virkailijat
log-count =
    { $count ->
        [0] Ei merkintöjä.
        [one] Yksi merkintä.
       *[other] { $count } merkintää.
    }
log-time = Aika
log-action = Mitä tehtiin
log-why = Käyttötarkoitus ja asia
log-purpose = Käyttötarkoitus
log-outcome = Miten päättyi
outcome-done = Tehty
outcome-unknown = Ei tiedossa
outcome-refused = Evätty ({ $name })

# Fields.
field-person = Henkilötunnus
field-person-hint = Esimerkiksi 131052-902N. Tunnusta ei näytetä osoiterivillä.
field-case = Asianumero
field-case-hint = Asia, johon tämä liittyy omassa järjestelmässänne.
field-purpose = Käyttötarkoitus
field-categories = Mitä tietoja tarvitset
field-categories-hint = Jos et valitse mitään, saat kaiken, minkä sopimus sallii.
field-responder = Kenelle
field-kind = Pyynnön laji
field-question = Mitä pyydät
field-background = Mitä vastaajan on hyvä tietää
field-background-hint = Esimerkiksi vireillä oleva päätös tai mitä asiakas on kertonut.
field-from = Ajalta, ensimmäinen päivä
field-until = Ajalta, viimeinen päivä
field-due = Määräpäivä
field-due-hint = Tavallisesti seitsemän työpäivän päässä.
field-unit = Yksikkösi
field-unit-hint = Toinen osapuoli näkee, keneltä kysyä.
field-telephone = Yksikön puhelin
field-documents = Vastaukseen kuuluvat asiakirjat
field-answer = Vastaus
field-missing = Mitä vastauksesta puuttuu
field-reason = Syy
field-remark = Huomautus vastaajalle
field-type = Asiakirjan laji
field-recipient = Vastaanottaja
field-files = Tiedostot
field-files-hint = PDF, ODT, DOCX, JPEG, PNG, TIFF tai teksti, enintään { $name } kukin. Voit myös raahata tiedostot tähän.
field-feedback = Mikä ei toiminut tai mitä puuttuu
field-feedback-hint = Älä kirjoita henkilötunnuksia tai asiakkaiden tietoja.
field-reply-to = Mihin voimme vastata
