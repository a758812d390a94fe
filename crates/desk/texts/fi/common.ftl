# What is on every page.
desk = Airut-työpöytä
skip = Siirry sisältöön
languages = Kielet
menu = Päävalikko
menu-today = Tänään
menu-queries = Etuuskysely
menu-requests = Tietopyynnöt
menu-documents = Asiakirjat
menu-notices = Ilmoitukset
menu-log = Oma loki
menu-users-log = Käyttäjien loki
sign-out = Kirjaudu ulos
footer = Airut välittää sanomia viranomaisten välillä. Jokainen katselu jää lokiin.
link-lost = Sanomanvälitykseen ei juuri nyt saada yhteyttä. Listat voivat olla vanhentuneita. Työpöytä yrittää uudelleen itse.
live-lost = Yhteys työpöytään on poikki. Sivu päivittyy taas, kun yhteys palaa.
session-ends = Istuntosi päättyy pian, koska et ole tehnyt mitään hetkeen.
session-over = Istuntosi on päättynyt. Kirjoittamasi ei katoa: lähetä lomake, kirjaudu sisään ja jatka siitä, mihin jäit.
session-stay = Jatka istuntoa
back = Takaisin
cancel = Peruuta
try-again = Yritä uudelleen
to-today = Siirry Tänään-sivulle
print = Tulosta
yes = Kyllä
no = Ei
pages = Sivut
page-before = Edellinen sivu
page-after = Seuraava sivu
page-of = Sivu { $page } / { $last }
tabs = Rajaa listaa

# Forms.
optional = (vapaaehtoinen)
choose = Valitse
count-of = LENGTH / MOST merkkiä
errors-title = Tarkista nämä kohdat
error-needed = Täytä tämä kenttä.
error-too-long =
    Lyhennä tekstiä: { $count ->
        [one] yksi merkki
       *[other] { $count } merkkiä
    } liikaa.
error-characters = Tekstissä on merkkejä, joita ei voi lähettää.
error-choose = Valitse yksi vaihtoehdoista.
error-identity-code = Tarkista henkilötunnus: tarkistusmerkki tai muoto ei täsmää.
error-day = Kirjoita päivä muodossa 27.11.2026.
error-span = Anna myös alkupäivä, joka on ennen loppupäivää.
error-working-day = Valitse arkipäivä, joka ei ole pyhäpäivä.
error-due = Valitse päivä, joka on enintään 60 työpäivän päässä.
error-telephone = Puhelinnumerossa voi olla numeroita, välilyöntejä ja merkkejä + ( ) -.
error-files = Valitse ainakin yksi tiedosto.
error-too-many-files = Lähetä kerralla enintään { $count } tiedostoa.
error-file-name = Tiedoston nimi ei kelpaa. Anna tiedostolle lyhyempi nimi ilman kauttaviivoja ja henkilötunnusta.
error-file-too-large = Tiedosto { $name } on liian suuri: enintään { $most }.
error-file-empty = Tiedosto { $name } on tyhjä.
error-file-type = Tiedostoa { $name } ei tunnisteta. Lähetä PDF, ODT, DOCX, JPEG, PNG, TIFF tai teksti.
check-lead = Tarkista tiedot ennen lähettämistä.
check-next = Jatka tarkistukseen
check-edit = Muokkaa
not-sent-refused = Sanomanvälitys ei ottanut tätä vastaan ({ $name }).
not-sent-gone = Tätä ei enää löydy organisaatiosi tiedoista.
not-sent-unreachable = Lähetys ei onnistunut, koska sanomanvälitykseen ei saatu yhteyttä. Kaikki kirjoittamasi on tallella tällä sivulla. Yritä hetken päästä uudelleen: sama asia ei lähde kahdesti.
not-sent-file = Tiedostoa { $name } ei lähetetty. { $why }
not-sent-file-unreachable = Tiedostoa { $name } ei saatu lähetettyä, koska yhteys katkesi. Yritä hetken päästä uudelleen.

# What was done.
done-created = Tietopyyntö on lähetetty.
done-answered = Vastaus on lähetetty.
done-returned = Pyyntö on palautettu täydennettäväksi.
done-closed = Pyyntö on suljettu.
done-transferred = Pyyntö on siirretty.
done-cancelled = Pyyntö on peruttu.
done-sent = Asiakirja on lähetetty.
done-claimed = Otit tämän käsittelyyn.
done-taken = Joku muu ehti ottaa tämän käsittelyyn.
done-released = Vapautit tämän muille.
done-handled = Merkitty käsitellyksi.
done-reopened = Palautettu käsiteltäväksi.
done-feedback = Kiitos palautteesta. Vastaamme kahden viikon kuluessa, jos annoit yhteystiedon.

# Why a page can not be shown.
fault-not-found = Sivua ei löydy
fault-not-found-text = Osoite on väärä, tai asia ei kuulu organisaatiollesi. Katselun yritys on kirjattu lokiin.
fault-forbidden = Sinulla ei ole tähän oikeutta
fault-forbidden-text = Tehtävääsi ei kuulu tätä toimintoa. Pyydä oikeus esihenkilöltäsi, jos tarvitset sitä.
fault-sign-in = Kirjaudu sisään
fault-sign-in-text = Sivu näytetään, kun olet kirjautunut sisään.
fault-forged = Lomaketta ei voitu ottaa vastaan
fault-forged-text = Lomake ei ole peräisin tästä istunnosta. Palaa edelliselle sivulle, lataa se uudelleen ja lähetä lomake sieltä.
fault-too-large = Liian suuri lähetys
fault-too-large-text = Lomakkeessa on enemmän tietoa kuin siihen mahtuu. Lyhennä tekstiä tai lähetä tiedostot erikseen.
fault-malformed = Pyyntöä ei ymmärretty
fault-malformed-text = Palaa edelliselle sivulle ja yritä uudelleen.
fault-unreachable = Sanomanvälitykseen ei saada yhteyttä
fault-unreachable-text = Tietoja ei voi näyttää juuri nyt. Mitään ei ole kadonnut. Yritä hetken päästä uudelleen.
fault-refused = Sanomanvälitys kieltäytyi
fault-refused-text = Pyyntöä ei toteutettu.
fault-busy = Työpöytä on ruuhkautunut
fault-busy-text = Moni lähettää tai hakee asiakirjoja juuri nyt. Yritä hetken päästä uudelleen.
fault-store = Työpöydän lokiin ei voi kirjoittaa
fault-store-text = Mitään ei näytetä, jos katselua ei voida kirjata. Ylläpito on saanut tiedon. Yritä hetken päästä uudelleen.
fault-sign-in-failed = Kirjautuminen ei onnistunut
fault-sign-in-failed-text = Kirjautuminen keskeytyi tai vanheni. Aloita alusta.
fault-sign-in-organisation = Organisaatiollasi ei ole työpöytää täällä
fault-sign-in-organisation-text = Tunnuksesi kuuluu organisaatioon, jota tämä työpöytä ei palvele.
fault-sign-in-provider = Kirjautumispalveluun ei saada yhteyttä
fault-sign-in-provider-text = Yritä hetken päästä uudelleen.

# Reasons of the exchange.
reason-NO_CONTRACT = Organisaatiosi sopimus ei salli tätä tällä perusteella.
reason-NOTHING_GRANTED = Sopimus ei salli mitään pyydetyistä tiedoista.
reason-NOT_FOUND = Ei löytynyt.
reason-INVALID_FIELD = Jokin kenttä ei kelpaa.
reason-MISSING_FIELD = Jokin kenttä puuttuu.
reason-WRONG_STATE = Joku ehti ensin: pyynnön tila on muuttunut. Avaa pyyntö uudelleen.
reason-VERSION_CHANGED = Pyyntö on muuttunut sen jälkeen, kun avasit sen. Avaa pyyntö uudelleen ja katso, mitä on tapahtunut.
reason-DOCUMENT_GONE = Asiakirjaa ei enää säilytetä.
reason-CONTENT_TYPE_MISMATCH = Tiedoston sisältö ei ole sitä, mitä sen nimi sanoo.
reason-CONTENT_REJECTED = Tiedostosta löytyi haitallista sisältöä.
reason-QUOTA_EXCEEDED = Organisaatiosi lähettää juuri nyt enemmän kuin sille on varattu. Yritä hetken päästä.
reason-QUERY_ID_SPENT = Kysely on vanhentunut. Lähetä uusi kysely.
