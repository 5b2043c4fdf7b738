package reposerver

import (
	"time"

	"github.com/hanaper/hanaper/uptane"
)

// Bounds of the server.
const (
	// maxDevices bounds the devices of the Director.
	maxDevices = 100_000
	// maxECUs bounds the ECUs of one device.
	maxECUs = 100
	// maxDeviceID is the longest device identity, in characters.
	maxDeviceID = 256
	// maxRegistration and maxManifest bound what a device sends, in bytes.
	maxRegistration = 256 << 10
	maxManifest     = 512 << 10
	// maxTold and maxEvents bound what devices tell of themselves and the events of one request, in bytes; KeepEvents and
	// maxEventID are events and characters.
	maxTold    = 512 << 10
	maxEvents  = 128 << 10
	KeepEvents = 100
	maxEventID = 64
	// maxSaid bounds the words of a device in reports, in bytes.
	maxSaid = 512
	// maxVersion is the highest version that devices can count to, with room above it.
	maxVersion = uptane.LastRoom
	// replacementLife bounds for how long a replacement may be allowed.
	replacementLife = 30 * 24 * time.Hour
	// maxClockSkew is by how much clocks may differ.
	maxClockSkew = 5 * time.Minute
	// maxForm bounds small requests in bytes.
	maxForm = 64 << 10
	// maxBearers bounds the tokens that are good at one time.
	maxBearers = 10_000
	// bearerLife is how long a token is good.
	bearerLife = time.Hour
	// maxPending bounds the uploads that were begun and not finished.
	maxPending = 100
	// pendingLife is how long an unfinished upload can be resumed.
	pendingLife = 7 * 24 * time.Hour
	// storageLife is how long a storage URL is good.
	storageLife = time.Hour
	// lockPatience is how long a change waits for another process's change.
	lockPatience = 15 * time.Second
	// burst and rate bound what one device may write, and how fast unknown callers may guess: tokens, and tokens a second.
	burst = 20
	rate  = 1.0
	// maxBuckets bounds the callers whose rate is remembered.
	maxBuckets = 50_000
)
