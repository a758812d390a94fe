# The accessibility statement, and feedback on the desk.
accessibility-link = Tillgänglighetsutlåtande och respons
accessibility-title = Tillgänglighetsutlåtande
accessibility-scope = Detta utlåtande gäller Airut-skrivbordet, där myndigheternas tjänstemän frågar efter och skickar uppgifter.
accessibility-status-title = Hur tillgängligt skrivbordet är
accessibility-status = Skrivbordet är gjort för att uppfylla kraven på nivå A och AA i WCAG 2.1. Allt fungerar med tangentbord, utan JavaScript och med 400 procents förstoring.
accessibility-known-title = Kända brister
accessibility-known-documents = Handlingar som andra skickar visas som de kommer. Alla av dem är inte tillgängliga.
accessibility-known-script = Skrivbordet har ännu inte testats med alla skärmläsare eller med dem som använder det.
accessibility-how-title = Hur tillgängligheten har bedömts
accessibility-how = Utvecklarnas egen bedömning: varje sida granskas automatiskt med axe-core och gås igenom med tangentbord varje gång skrivbordet ändras.
accessibility-feedback-title = Ge respons
accessibility-feedback = Berätta om något inte fungerar för dig. Vi svarar inom två veckor.
accessibility-authority-title = Tillsynsmyndighet
accessibility-authority = Om du inte är nöjd med svaret kan du göra en anmälan till Transport- och kommunikationsverket Traficom (tillganglighetskrav.fi).
feedback-send = Skicka respons
feedback-title = Respons om skrivbordet
feedback-none = Det finns ingen respons.
