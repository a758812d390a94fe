# Signing in.
sign-in-title = Sign in
sign-in-lead = At the desk you look up benefits, answer information requests and send documents. Every reading and sending is recorded under your name.
sign-in-go = Sign in with your organisation’s account
sign-in-dev = This is a development environment: all persons and all data are made up. Choose who to be.
draft-title = What you typed is still here
draft-lead = Your session ended before the form was sent. You can go on where you were.
draft-go-on = Go on to the form
draft-drop = Throw it away

# Today.
today-title = Today
today-requests = Information requests that wait for you ({ $count })
today-overdue =
    { $count ->
        [one] One is overdue
       *[other] { $count } are overdue
    }
today-no-requests = No information requests wait.
today-notices = Notices to deal with ({ $count })
today-no-notices = There are no new notices.
today-documents = Documents to deal with ({ $count })
today-no-documents = There are no new documents.
today-query = Look up benefits
all-requests = All information requests
all-notices = All notices
all-documents = All documents

# Lists.
list-incomplete = The list is not whole yet: requests are being fetched.
list-count =
    { $count ->
        [0] None.
        [one] One.
       *[other] { $count } in all.
    }
table-requests = Information requests
table-notices = Notices
table-documents = Documents
table-sent = Documents sent
col-request = Request
col-counterpart = Other party
col-state = State
col-due = Due
col-claim = Claimed by
col-item = Subject
col-sender = Sender
col-arrived = Arrived
col-file = File
col-recipient = Recipient
col-sent = Sent
col-official = Official
overdue = Overdue
unread = Unread
unclaimed = Nobody
read-by-responder = Read by the responder
handled-at = Dealt with on { $name }
tab-waiting = Waits for us
tab-elsewhere = Waits for the other party
tab-ended = Ended
tab-all = All
tab-arrived = Arrived
tab-handled = Dealt with
tab-sent = Sent
sort = Sort by:
sort-due = due date
sort-changed = last changed
sort-kind = kind
sort-counterpart = other party
filter-all = All
filter-mine = Only mine
filter-show = Show

# Claims.
claim = Claim
release = Release
take-over = Take over
claimed-by-me = You have claimed this, since { $name }.
claimed-by = Claimed by { $name }, since { $time }.
claimed-by-nobody = Nobody has claimed this yet.
handle = Mark as dealt with
reopen = Deal with it again

# Information requests.
requests-title = Information requests
find-title = Find the requests about a person
find-lead = That you look is recorded.
find-send = Find
request-new-title = New information request
request-new-lead = Ask only for what the decision needs.
request-new-send = Send the request
request-respond = Answer
request-respond-title = Answer the information request
request-respond-send = Send the answer
request-return = Return for completion
request-return-title = Return for completion
request-return-send = Return the request
request-close = Close
request-close-title = Close the information request
request-close-send = Close the request
request-transfer = Pass on
request-transfer-title = Pass the information request on
request-transfer-send = Pass the request on
request-cancel = Cancel the request
request-cancel-title = Cancel the information request
request-cancel-send = Cancel the request
request-news = There is something new in this request. Show it.
request-id = Request
request-person = Person
request-case = Your case
request-requester = Asked by
request-responder = To be answered by
request-state = State
request-due = Due
request-created = Sent
request-read = Read
request-answered = Answered
request-contact = Whom to ask at the other party
request-progress = How far the request has come
request-pdf = Save as PDF for the case file
request-all-documents = Download all documents
request-history = History
progress-delivered = Delivered
progress-read = Read
progress-answered = Answered
progress-not-yet = not yet
step-created = The request was sent
step-responded = The request was answered
step-returned = The request was returned for completion
step-closed = The request was closed
step-transferred = The request was passed on
step-cancelled = The request was cancelled
step-other = Something else
step-question = What is asked
step-background = Background
step-period = For the time
step-due = Due
step-answer = Answer
step-missing = What is missing
step-remark = Remark
step-reason = Reason
step-to = To
step-documents = Documents
case-file-made = Made by { $name } on { $time }.
attach-title = Attachments
attach-send = Attach the files

# Documents.
documents-title = Documents
document-new-title = Send documents
document-new-lead = Send a client’s documents at the client’s request. Files keep their names.
document-new-send = Send
document-kind = Kind
document-case = The sender’s case
document-format = Format and size
document-opened = First opened
document-download = Download
document-view = Open in a new tab
document-unnamed = A document that has not come to this desk yet
upload-progress = Sending files
upload-broke = Sending was broken off. What you typed is still here: try again.
upload-uploading = Under way
upload-held = Waits to be checked
upload-stored = Delivered
upload-fetched = Fetched
upload-rejected = Rejected
upload-expired = Expired
upload-erased = Erased
state-unknown = Not known just now

# Notices.
notices-title = Notices
notice-content = What the notice says
notice-request = Open the information request
non-disclosure = The person is under a non-disclosure order: address and contact details are not shown.

# Benefit query.
queries-title = Benefit query
query-lead = Ask only for your duties. Question and answer are recorded.
query-send = Ask
query-again = Another query
query-reason = { $purpose } ({ $act })
query-answer = Benefits of { $name }
query-case = case { $name }
query-next-payment = Next payment
query-nothing = There is nothing that you may see under your contract.
query-withheld = What is withheld, and why
query-record = On record: { $name }
withheld-contract = your contract does not cover this on this ground
withheld-benefits = only benefits that the contract names are shown
withheld-window = only the time that the contract names is shown
matter-filed = Filed
matter-applied-from = Applied for from
matter-stage = Stage
matter-decided = Decided
matter-outcome = Outcome
matter-in-force = In force
matter-monthly = A month
matter-due = Payment day
matter-net = Paid out
matter-gross = Before tax
matter-for = For
matter-insured = Insured
matter-total = To be recovered in all
matter-remaining = Still to be recovered
matter-year = Year
matter-accrued = Accrued
matter-limit = Annual limit
matter-reached = Reached

# The log.
log-title = My log
log-lead = What you have looked at and done. The last column shows the record of the exchange by which an auditor can verify the same.
users-log-title = Users’ log
users-log-lead = What your organisation’s officials have looked at and done. That you read this log is recorded too.
users-log-all = Show all officials
log-count =
    { $count ->
        [0] No entries.
        [one] One entry.
       *[other] { $count } entries.
    }
log-time = Time
log-action = What was done
log-why = Purpose and case
log-purpose = Purpose
log-outcome = How it ended
outcome-done = Done
outcome-unknown = Not known
outcome-refused = Refused ({ $name })

# Fields.
field-person = Identity code
field-person-hint = For example 131052-902N. It never shows in the address.
field-case = Case number
field-case-hint = The case in your own system that this belongs to.
field-purpose = Purpose
field-categories = What you need
field-categories-hint = If you choose nothing you get all that the contract grants.
field-responder = To whom
field-kind = Kind of request
field-question = What you ask
field-background = What the responder should know
field-background-hint = For example a decision under way, or what the client has said.
field-from = About the time from
field-until = About the time until
field-due = Due
field-due-hint = Usually seven working days ahead.
field-unit = Your unit
field-unit-hint = The other party sees whom to ask.
field-telephone = Your unit’s telephone
field-documents = Documents that belong to the answer
field-answer = Answer
field-missing = What is missing in the answer
field-reason = Reason
field-remark = Remark to the responder
field-type = Kind of document
field-recipient = Recipient
field-files = Files
field-files-hint = PDF, ODT, DOCX, JPEG, PNG, TIFF or text, at most { $name } each. You can also drag files here.
field-feedback = What did not work, or what is missing
field-feedback-hint = Do not write identity codes or anything of clients.
field-reply-to = Where we can answer
