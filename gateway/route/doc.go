// Package route hands devices' requests on: to which upstream, on which path, under whose name.
//
// What this package trusts: its configuration, the Identity that its caller has proven, and each upstream for what it answers to the devices whose
// requests it gets, for no more. It trusts nothing in a request.
//
// An attacker who controls a device's requests reaches the upstream that the path names and no other, as that device and as no other: a path that
// two readers could take for two routes is refused, and of the headers by which an upstream is told who speaks, none of the device's own passes, in
// whatever spelling. Request and response are framed anew on the way, so that what one side hides in a body stays in it.
//
// One who controls an upstream can answer its own requests as it likes, and hold a device's request for as long as that upstream's timeout.
// It cannot answer the request of another device: a connection with anything left over on it is closed, not used again. It cannot make the gateway
// remember more than one header of bounded size, nor call other addresses than those in the configuration: redirections go to the device.
package route
