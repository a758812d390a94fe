# What is on every page.
desk = Airut-skrivbord
skip = Gå till innehållet
languages = Språk
menu = Huvudmeny
menu-today = I dag
menu-queries = Förmånsförfrågan
menu-requests = Begäranden om information
menu-documents = Handlingar
menu-notices = Meddelanden
menu-log = Min logg
menu-users-log = Användarnas logg
sign-out = Logga ut
footer = Airut förmedlar meddelanden mellan myndigheter. Varje läsning antecknas i loggen.
link-lost = Det går inte att nå meddelandeförmedlingen just nu. Listorna kan vara föråldrade. Skrivbordet försöker igen av sig självt.
live-lost = Förbindelsen till skrivbordet är bruten. Sidan uppdateras igen när förbindelsen är tillbaka.
session-ends = Din session avslutas snart, eftersom du inte har gjort något på en stund.
session-over = Din session har avslutats. Det du skrev försvinner inte: skicka blanketten, logga in och fortsätt där du slutade.
session-stay = Fortsätt sessionen
back = Tillbaka
cancel = Avbryt
try-again = Försök igen
to-today = Gå till sidan I dag
print = Skriv ut
yes = Ja
no = Nej
pages = Sidor
page-before = Föregående sida
page-after = Nästa sida
page-of = Sida { $page } / { $last }
tabs = Avgränsa listan

# Forms.
optional = (frivilligt)
choose = Välj
count-of = LENGTH / MOST tecken
errors-title = Kontrollera dessa punkter
error-needed = Fyll i detta fält.
error-too-long =
    Förkorta texten: { $count ->
        [one] ett tecken
       *[other] { $count } tecken
    } för mycket.
error-characters = Texten innehåller tecken som inte kan skickas.
error-choose = Välj ett av alternativen.
error-identity-code = Kontrollera personbeteckningen: kontrolltecknet eller formen stämmer inte.
error-day = Skriv dagen i formen 27.11.2026.
error-span = Ange också en första dag som är före den sista.
error-working-day = Välj en vardag som inte är en helgdag.
error-due = Välj en dag som är högst 60 arbetsdagar framåt.
error-telephone = Telefonnumret får innehålla siffror, mellanslag och tecknen + ( ) -.
error-files = Välj minst en fil.
error-too-many-files = Skicka högst { $count } filer på en gång.
error-file-name = Filens namn duger inte. Ge filen ett kortare namn utan snedstreck och personbeteckning.
error-file-too-large = Filen { $name } är för stor: högst { $most }.
error-file-empty = Filen { $name } är tom.
error-file-type = Filen { $name } känns inte igen. Skicka PDF, ODT, DOCX, JPEG, PNG, TIFF eller text.
check-lead = Kontrollera uppgifterna innan du skickar.
check-next = Fortsätt till kontroll
check-edit = Ändra
not-sent-refused = Meddelandeförmedlingen tog inte emot detta ({ $name }).
not-sent-gone = Detta finns inte längre hos din organisation.
not-sent-unreachable = Det gick inte att skicka, eftersom meddelandeförmedlingen inte kunde nås. Allt du har skrivit finns kvar på den här sidan. Försök igen om en stund: samma sak skickas inte två gånger.
not-sent-file = Filen { $name } skickades inte. { $why }
not-sent-file-unreachable = Filen { $name } kunde inte skickas, eftersom förbindelsen bröts. Försök igen om en stund.

# What was done.
done-created = Begäran om information har skickats.
done-answered = Svaret har skickats.
done-returned = Begäran har returnerats för komplettering.
done-closed = Begäran har stängts.
done-transferred = Begäran har överförts.
done-cancelled = Begäran har återkallats.
done-sent = Handlingen har skickats.
done-claimed = Du tog detta till behandling.
done-taken = Någon annan hann ta detta till behandling.
done-released = Du gav detta fritt för andra.
done-handled = Märkt som behandlat.
done-reopened = Återförd för behandling.
done-feedback = Tack för din respons. Vi svarar inom två veckor om du uppgav en kontaktuppgift.

# Why a page can not be shown.
fault-not-found = Sidan finns inte
fault-not-found-text = Adressen är fel, eller så hör ärendet inte till din organisation. Försöket att läsa har antecknats i loggen.
fault-forbidden = Du har inte rätt till detta
fault-forbidden-text = Den här funktionen hör inte till dina uppgifter. Be din chef om rätten om du behöver den.
fault-sign-in = Logga in
fault-sign-in-text = Sidan visas när du har loggat in.
fault-forged = Blanketten kunde inte tas emot
fault-forged-text = Blanketten kommer inte från den här sessionen. Gå tillbaka till föregående sida, ladda om den och skicka blanketten därifrån.
fault-too-large = För stor sändning
fault-too-large-text = Blanketten innehåller mer än vad som ryms. Förkorta texten eller skicka filerna separat.
fault-malformed = Begäran förstods inte
fault-malformed-text = Gå tillbaka till föregående sida och försök igen.
fault-unreachable = Meddelandeförmedlingen kan inte nås
fault-unreachable-text = Uppgifterna kan inte visas just nu. Inget har försvunnit. Försök igen om en stund.
fault-refused = Meddelandeförmedlingen vägrade
fault-refused-text = Begäran genomfördes inte.
fault-busy = Skrivbordet är överbelastat
fault-busy-text = Många skickar eller hämtar handlingar just nu. Försök igen om en stund.
fault-store = Det går inte att skriva i skrivbordets logg
fault-store-text = Inget visas om läsningen inte kan antecknas. Administrationen har fått veta. Försök igen om en stund.
fault-sign-in-failed = Inloggningen lyckades inte
fault-sign-in-failed-text = Inloggningen avbröts eller blev för gammal. Börja om.
fault-sign-in-organisation = Din organisation har inget skrivbord här
fault-sign-in-organisation-text = Ditt konto hör till en organisation som det här skrivbordet inte betjänar.
fault-sign-in-provider = Inloggningstjänsten kan inte nås
fault-sign-in-provider-text = Försök igen om en stund.

# Reasons of the exchange.
reason-NO_CONTRACT = Din organisations avtal tillåter inte detta på den här grunden.
reason-NOTHING_GRANTED = Avtalet tillåter inga av de begärda uppgifterna.
reason-NOT_FOUND = Hittades inte.
reason-INVALID_FIELD = Något fält duger inte.
reason-MISSING_FIELD = Något fält saknas.
reason-WRONG_STATE = Någon hann före: begärans tillstånd har ändrats. Öppna begäran på nytt.
reason-VERSION_CHANGED = Begäran har ändrats sedan du öppnade den. Öppna begäran på nytt och se vad som har hänt.
reason-DOCUMENT_GONE = Handlingen förvaras inte längre.
reason-CONTENT_TYPE_MISMATCH = Filens innehåll är inte vad dess namn säger.
reason-CONTENT_REJECTED = Skadligt innehåll hittades i filen.
reason-QUOTA_EXCEEDED = Din organisation skickar just nu mer än vad som är reserverat. Försök om en stund.
reason-QUERY_ID_SPENT = Förfrågan är för gammal. Gör en ny förfrågan.
