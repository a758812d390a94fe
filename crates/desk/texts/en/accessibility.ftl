# The accessibility statement, and feedback on the desk.
accessibility-link = Accessibility statement and feedback
accessibility-title = Accessibility statement
accessibility-scope = This statement is about the Airut desk, at which officials of authorities ask for and send information.
accessibility-status-title = How accessible the desk is
accessibility-status = The desk is made to meet levels A and AA of WCAG 2.1. Everything works by keyboard, without JavaScript and at 400 per cent zoom.
accessibility-known-title = Known shortcomings
accessibility-known-documents = Documents that others send are shown as they come. Not all of them are accessible.
accessibility-known-script = The desk has not been tested yet with every screen reader, nor with those who use one.
accessibility-how-title = How this was assessed
accessibility-how = The developers’ own assessment: each page is checked automatically with axe-core and gone through by keyboard whenever the desk changes.
accessibility-feedback-title = Give feedback
accessibility-feedback = Tell us if something does not work for you. We answer within two weeks.
accessibility-authority-title = Supervisory authority
accessibility-authority = If you are not content with the answer you can turn to the Finnish Transport and Communications Agency Traficom (webaccessibility.fi).
feedback-send = Send feedback
feedback-title = Feedback on the desk
feedback-none = There is none.
