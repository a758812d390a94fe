# The accessibility statement, and feedback on the desk.
accessibility-link = Saavutettavuusseloste ja palaute
accessibility-title = Saavutettavuusseloste
accessibility-scope = Tämä seloste koskee Airut-työpöytää, jolla viranomaisten virkailijat kysyvät ja lähettävät tietoja.
accessibility-status-title = Kuinka saavutettava työpöytä on
accessibility-status = Työpöytä on tehty täyttämään WCAG 2.1 -ohjeiston A- ja AA-tason vaatimukset. Kaikki toimii näppäimistöllä, ilman JavaScriptiä ja 400 prosentin suurennoksella.
accessibility-known-title = Tunnetut puutteet
accessibility-known-documents = Asiakirjat, joita muut lähettävät, näytetään sellaisina kuin ne tulevat. Kaikki niistä eivät ole saavutettavia.
accessibility-known-script = Työpöytää ei ole vielä testattu kaikilla ruudunlukuohjelmilla eikä sen käyttäjien kanssa.
accessibility-how-title = Miten saavutettavuus on arvioitu
accessibility-how = Kehittäjien oma arvio: jokainen sivu tarkastetaan automaattisesti axe-core-välineellä ja käydään läpi näppäimistöllä aina, kun työpöytä muuttuu.
accessibility-feedback-title = Anna palautetta
accessibility-feedback = Kerro, jos jokin ei toimi sinulle. Vastaamme kahden viikon kuluessa.
accessibility-authority-title = Valvontaviranomainen
accessibility-authority = Jos vastaus ei tyydytä sinua, voit tehdä ilmoituksen Liikenne- ja viestintävirastolle Traficomille (saavutettavuusvaatimukset.fi).
feedback-send = Lähetä palaute
feedback-title = Palaute työpöydästä
feedback-none = Palautetta ei ole.
