// Package console is what operators see in their browser: how the line stands, and the acts that an operator may do there. Its
// pages are made on the server, run no script and load nothing from elsewhere; docs/spec/console.md says how they are protected.
//
// It decides nothing about devices: every act is a call of factory.Service, under the name in the operator's certificate. It
// trusts the Operations Root, through factory.Callers, and the browser of whoever holds an operator's certificate.
//
// Somebody who controls what devices and stations send can put text on a page; it is shown as text, on one line, by package
// show and html/template. Somebody who controls another web page that an operator has open cannot make the browser act here: such requests are
// refused by where the browser says that they come from, and because they lack a token that only a page for this
// certificate holds, for what that page showed. Somebody who holds a viewer's certificate sees everything and changes nothing; a
// station's, and a device's, see nothing. Somebody at an operator's unlocked desk can do what the operator can.
package console
