# What is on every page.
desk = Airut desk
skip = Skip to the content
languages = Languages
menu = Main menu
menu-today = Today
menu-queries = Benefit query
menu-requests = Information requests
menu-documents = Documents
menu-notices = Notices
menu-log = My log
menu-users-log = Users’ log
sign-out = Sign out
footer = Airut exchanges messages between authorities. Every reading is recorded in the log.
link-lost = The message exchange can not be reached just now. Lists may be out of date. The desk tries again by itself.
live-lost = The connection to the desk is lost. The page is kept up to date again once it is back.
session-ends = Your session ends soon, because you have not done anything for a while.
session-over = Your session has ended. What you typed is not lost: send the form, sign in and go on where you were.
session-stay = Stay signed in
back = Back
cancel = Cancel
try-again = Try again
to-today = Go to today’s page
print = Print
yes = Yes
no = No
pages = Pages
page-before = Previous page
page-after = Next page
page-of = Page { $page } of { $last }
tabs = Narrow the list

# Forms.
optional = (optional)
choose = Choose
count-of = LENGTH of MOST characters
errors-title = Check these fields
error-needed = Fill in this field.
error-too-long =
    Shorten the text: { $count ->
        [one] one character
       *[other] { $count } characters
    } too many.
error-characters = The text has characters in it that can not be sent.
error-choose = Choose one of the options.
error-identity-code = Check the identity code: its check character or its form is not right.
error-day = Write the day as 27.11.2026.
error-span = Give a first day too, before the last one.
error-working-day = Choose a working day that is not a holiday.
error-due = Choose a day at most 60 working days ahead.
error-telephone = A telephone number has digits, spaces and + ( ) - in it.
error-files = Choose at least one file.
error-too-many-files = Send at most { $count } files at once.
error-file-name = The file’s name can not be used. Give it a shorter one, without slashes and without an identity code.
error-file-too-large = The file { $name } is too large: at most { $most }.
error-file-empty = The file { $name } is empty.
error-file-type = The file { $name } is not of a known kind. Send PDF, ODT, DOCX, JPEG, PNG, TIFF or text.
check-lead = Check before you send.
check-next = Go on to check
check-edit = Edit
not-sent-refused = The exchange did not take this ({ $name }).
not-sent-gone = This is no longer among what your organisation has.
not-sent-unreachable = It was not sent, because the exchange could not be reached. All that you typed is still on this page. Try again in a while: the same thing is not sent twice.
not-sent-file = The file { $name } was not sent. { $why }
not-sent-file-unreachable = The file { $name } could not be sent, because the connection was lost. Try again in a while.

# What was done.
done-created = The information request was sent.
done-answered = The answer was sent.
done-returned = The request was returned for completion.
done-closed = The request was closed.
done-transferred = The request was passed on.
done-cancelled = The request was cancelled.
done-sent = The document was sent.
done-claimed = You claimed this.
done-taken = Somebody else claimed this first.
done-released = You gave this back to everybody.
done-handled = Marked as dealt with.
done-reopened = To be dealt with again.
done-feedback = Thank you for your feedback. We answer within two weeks if you said where to.

# Why a page can not be shown.
fault-not-found = There is no such page
fault-not-found-text = The address is wrong, or what it names is not your organisation’s. That you tried is in the log.
fault-forbidden = You may not do this
fault-forbidden-text = This is not among your tasks. Ask your supervisor for the right if you need it.
fault-sign-in = Sign in
fault-sign-in-text = The page is shown once you have signed in.
fault-forged = The form could not be taken
fault-forged-text = The form is not of this session. Go back to the page before, load it anew and send the form from there.
fault-too-large = Too large to be sent
fault-too-large-text = The form holds more than it can. Shorten the text, or send the files by themselves.
fault-malformed = The request was not understood
fault-malformed-text = Go back to the page before and try again.
fault-unreachable = The message exchange can not be reached
fault-unreachable-text = What you asked for can not be shown just now. Nothing is lost. Try again in a while.
fault-refused = The message exchange refused
fault-refused-text = It was not done.
fault-busy = The desk is busy
fault-busy-text = Many are sending or fetching documents just now. Try again in a while.
fault-store = The desk’s log can not be written
fault-store-text = Nothing is shown if its reading can not be recorded. Those who keep the desk have been told. Try again in a while.
fault-sign-in-failed = You could not be signed in
fault-sign-in-failed-text = Signing in was broken off or took too long. Begin again.
fault-sign-in-organisation = Your organisation has no desk here
fault-sign-in-organisation-text = Your account belongs to an organisation that this desk does not serve.
fault-sign-in-provider = The sign-in service can not be reached
fault-sign-in-provider-text = Try again in a while.

# Reasons of the exchange.
reason-NO_CONTRACT = Your organisation’s contract does not grant this on this ground.
reason-NOTHING_GRANTED = The contract grants nothing of what was asked for.
reason-NOT_FOUND = Not found.
reason-INVALID_FIELD = Something in a field can not be taken.
reason-MISSING_FIELD = A field is missing.
reason-WRONG_STATE = Somebody was first: the request’s state has changed. Open the request anew.
reason-VERSION_CHANGED = The request has changed since you opened it. Open it anew and see what has happened.
reason-DOCUMENT_GONE = The document is no longer kept.
reason-CONTENT_TYPE_MISMATCH = The file is not what its name says.
reason-CONTENT_REJECTED = Something harmful was found in the file.
reason-QUOTA_EXCEEDED = Your organisation is sending more than it may just now. Try again in a while.
reason-QUERY_ID_SPENT = This query is too old. Send a new one.
