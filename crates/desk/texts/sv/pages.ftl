# Signing in.
sign-in-title = Logga in
sign-in-lead = Vid skrivbordet frågar du efter förmånsuppgifter, svarar på begäranden om information och skickar handlingar. Varje läsning och sändning antecknas i ditt namn.
sign-in-go = Logga in med din organisations konto
sign-in-dev = Detta är en utvecklingsmiljö: alla personer och uppgifter är påhittade. Välj vem du vill vara.
draft-title = Det du skrev finns kvar
draft-lead = Din session avslutades innan blanketten hann skickas. Du kan fortsätta där du slutade.
draft-go-on = Fortsätt till blanketten
draft-drop = Kasta

# Today.
today-title = I dag
today-requests = Begäranden om information som väntar på er ({ $count })
today-overdue =
    { $count ->
        [one] En är försenad
       *[other] { $count } är försenade
    }
today-no-requests = Inga begäranden väntar.
today-notices = Obehandlade meddelanden ({ $count })
today-no-notices = Det finns inga nya meddelanden.
today-documents = Obehandlade handlingar ({ $count })
today-no-documents = Det finns inga nya handlingar.
today-query = Gör en förmånsförfrågan
all-requests = Alla begäranden
all-notices = Alla meddelanden
all-documents = Alla handlingar

# Lists.
list-incomplete = Listan är inte fullständig ännu: begäranden hämtas.
list-count =
    { $count ->
        [0] Ingen.
        [one] En.
       *[other] { $count } stycken.
    }
table-requests = Begäranden om information
table-notices = Meddelanden
table-documents = Handlingar
table-sent = Skickade handlingar
col-request = Begäran
col-counterpart = Motpart
col-state = Tillstånd
col-due = Sista dag
col-claim = Handläggare
col-item = Ärende
col-sender = Avsändare
col-arrived = Ankom
col-file = Fil
col-recipient = Mottagare
col-sent = Skickad
col-official = Tjänsteman
overdue = Försenad
unread = Oläst
unclaimed = Ledig
read-by-responder = Läst av den som ska svara
handled-at = Behandlad { $name }
tab-waiting = Väntar på oss
tab-elsewhere = Väntar på motparten
tab-ended = Avslutade
tab-all = Alla
tab-arrived = Ankomna
tab-handled = Behandlade
tab-sent = Skickade
sort = Ordning:
sort-due = sista dag
sort-changed = senast ändrad
sort-kind = slag av begäran
sort-counterpart = motpart
filter-all = Alla
filter-mine = Bara mina
filter-show = Visa

# Claims.
claim = Ta till behandling
release = Ge fritt
take-over = Ta över
claimed-by-me = Du är handläggare sedan { $name }.
claimed-by = Handläggare är { $name } sedan { $time }.
claimed-by-nobody = Ingen behandlar detta ännu.
handle = Märk som behandlat
reopen = Återför för behandling

# Information requests.
requests-title = Begäranden om information
find-title = Sök begäranden om en person
find-lead = Sökningen antecknas i loggen.
find-send = Sök
request-new-title = Ny begäran om information
request-new-lead = Begär bara det som beslutet kräver.
request-new-send = Skicka begäran
request-respond = Svara
request-respond-title = Svara på begäran om information
request-respond-send = Skicka svaret
request-return = Returnera för komplettering
request-return-title = Returnera för komplettering
request-return-send = Returnera begäran
request-close = Stäng
request-close-title = Stäng begäran om information
request-close-send = Stäng begäran
request-transfer = Överför till rätt instans
request-transfer-title = Överför begäran om information
request-transfer-send = Överför begäran
request-cancel = Återkalla
request-cancel-title = Återkalla begäran om information
request-cancel-send = Återkalla begäran
request-news = Det finns något nytt i begäran. Visa.
request-id = Begärans beteckning
request-person = Person
request-case = Ärende hos er
request-requester = Den som begär
request-responder = Den som ska svara
request-state = Tillstånd
request-due = Sista dag
request-created = Skickad
request-read = Läst
request-answered = Besvarad
request-contact = Kontakt till motparten
request-progress = Begärans gång
request-pdf = Spara som PDF till akten
request-all-documents = Ladda ner alla handlingar
request-history = Händelser
progress-delivered = Levererad
progress-read = Läst
progress-answered = Besvarad
progress-not-yet = inte ännu
step-created = Begäran skickades
step-responded = Begäran besvarades
step-returned = Begäran returnerades för komplettering
step-closed = Begäran stängdes
step-transferred = Begäran överfördes
step-cancelled = Begäran återkallades
step-other = Annan händelse
step-question = Vad som begärs
step-background = Bakgrund
step-period = För tiden
step-due = Sista dag
step-answer = Svar
step-missing = Vad som saknas
step-remark = Anmärkning
step-reason = Orsak
step-to = Till
step-documents = Handlingar
case-file-made = Utskriven av { $name } { $time }.
attach-title = Bilagor
attach-send = Bifoga filerna

# Documents.
documents-title = Handlingar
document-new-title = Skicka handlingar
document-new-lead = Skicka klientens handlingar på klientens begäran. Filerna behåller sina namn.
document-new-send = Skicka
document-kind = Slag
document-case = Avsändarens ärende
document-format = Format och storlek
document-opened = Öppnad första gången
document-download = Ladda ner
document-view = Öppna i en ny flik
document-unnamed = Handling som inte har anlänt till det här skrivbordet ännu
upload-progress = Filer skickas
upload-broke = Sändningen bröts. Uppgifterna finns kvar: försök igen.
upload-uploading = Pågår
upload-held = Väntar på granskning
upload-stored = Levererad
upload-fetched = Hämtad
upload-rejected = Avvisad
upload-expired = Förfallen
upload-erased = Raderad
state-unknown = Inte känt just nu

# Notices.
notices-title = Meddelanden
notice-content = Meddelandets innehåll
notice-request = Öppna begäran
non-disclosure = Personen har spärrmarkering: adress och kontaktuppgifter visas inte.

# Benefit query.
queries-title = Förmånsförfrågan
query-lead = Fråga bara för din uppgift. Förfrågan och svaret antecknas.
query-send = Fråga
query-again = Ny förfrågan
query-reason = { $purpose } ({ $act })
query-answer = Förmåner för { $name }
query-case = ärende { $name }
query-next-payment = Nästa utbetalning
query-nothing = Det finns inget som ni enligt ert avtal får se.
query-withheld = Vad som inte visas och varför
query-record = Antecknat i loggen: { $name }
withheld-contract = ert avtal omfattar inte dessa uppgifter på den här grunden
withheld-benefits = bara de förmåner som avtalet nämner visas
withheld-window = bara tiden enligt avtalet visas
matter-filed = Ansökan inkom
matter-applied-from = Sökt från och med
matter-stage = Skede
matter-decided = Beslutat
matter-outcome = Avgörande
matter-in-force = I kraft
matter-monthly = I månaden
matter-due = Betalningsdag
matter-net = Betalas ut
matter-gross = Före skatt
matter-for = För tiden
matter-insured = Försäkrad
matter-total = Återkrävs sammanlagt
matter-remaining = Återstår
matter-year = År
matter-accrued = Inflöt
matter-limit = Årssjälvrisk
matter-reached = Uppnådd

# The log.
log-title = Min logg
log-lead = Vad du har läst och gjort. Den sista kolumnen visar meddelandeförmedlingens post, av vilken en granskare kan verifiera detsamma.
users-log-title = Användarnas logg
users-log-lead = Vad din organisations tjänstemän har läst och gjort. Också läsningen av denna logg antecknas.
users-log-all = Visa alla tjänstemän
log-count =
    { $count ->
        [0] Inga anteckningar.
        [one] En anteckning.
       *[other] { $count } anteckningar.
    }
log-time = Tid
log-action = Vad som gjordes
log-why = Ändamål och ärende
log-purpose = Ändamål
log-outcome = Resultat
outcome-done = Gjort
outcome-unknown = Inte känt
outcome-refused = Avslaget ({ $name })

# Fields.
field-person = Personbeteckning
field-person-hint = Till exempel 131052-902N. Beteckningen visas inte i adressfältet.
field-case = Ärendenummer
field-case-hint = Ärendet som detta hör till i ert eget system.
field-purpose = Ändamål
field-categories = Vilka uppgifter du behöver
field-categories-hint = Om du inte väljer något får du allt som avtalet tillåter.
field-responder = Till vem
field-kind = Slag av begäran
field-question = Vad du begär
field-background = Vad den som svarar bör veta
field-background-hint = Till exempel ett beslut som bereds eller vad klienten har berättat.
field-from = För tiden, första dag
field-until = För tiden, sista dag
field-due = Sista dag
field-due-hint = Vanligen sju arbetsdagar framåt.
field-unit = Din enhet
field-unit-hint = Motparten ser vem den kan fråga.
field-telephone = Enhetens telefon
field-documents = Handlingar som hör till svaret
field-answer = Svar
field-missing = Vad som saknas i svaret
field-reason = Orsak
field-remark = Anmärkning till den som svarade
field-type = Slag av handling
field-recipient = Mottagare
field-files = Filer
field-files-hint = PDF, ODT, DOCX, JPEG, PNG, TIFF eller text, högst { $name } var. Du kan också dra filerna hit.
field-feedback = Vad fungerade inte eller vad saknas
field-feedback-hint = Skriv inga personbeteckningar eller klientuppgifter.
field-reply-to = Vart vi kan svara
