package trust

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

// The target files. Officers' files lie beside each other; the online role's CRLs lie under crl/.
const (
	anchorsTarget       = "anchors.pem"
	intermediatesTarget = "intermediates.pem"
	policyTarget        = "policy.json"
	releasesTarget      = "releases.json"
	// The Uptane roots of devices.
	uptaneDirectorTarget = "uptane/director.root.json"
	uptaneImageTarget    = "uptane/repo.root.json"
	officersCRLPrefix    = "officers-crl/"
	onlineCRLPrefix      = "crl/"
	crlSuffix            = ".crl"

	// crlRole is the delegated online role, and crlRolePath the paths it may sign for.
	crlRole     = "crl"
	crlRolePath = "crl/*.crl"

	// environmentField and formatField are the fields that each metadata file carries beside TUF's own.
	environmentField = "hanaper_environment"
	formatField      = "hanaper_format"
	format           = 1
	// formatLogs is that of the online role's metadata when it lists checkpoints of issuance logs: readers of format 1 refuse it.
	formatLogs = 2
	// logTargetPrefix begins the name of the target that holds a log's checkpoint; the SHA-256 of the log's origin follows. The path
	// that is delegated to the online role asks for the suffix of a CRL.
	logTargetPrefix = onlineCRLPrefix + "log-"

	timestampPath = TimestampPath
)

// TimestampPath is where the timestamp lies: the one file that changes under its name, and that changes with everything else.
const TimestampPath = "metadata/timestamp.json"

// CheckEnvironment refuses a name that is not 1 to 64 of a-z, 0-9 and '-', beginning and ending with a letter or digit.
func CheckEnvironment(name string) error {
	ok := name != "" && len(name) <= 64 && name[0] != '-' && name[len(name)-1] != '-'
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if !ok {
		return usage("use 1 to 64 of a-z, 0-9 and '-', for example plant-7-prod", "environment name %q is not allowed", name)
	}
	return nil
}

// metadataPath is where a versioned metadata file lies.
func metadataPath(role string, version int64) string {
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}

// targetPath is where a target file lies: consistent snapshots put the SHA-256 before the last element.
func targetPath(name string, sha256 []byte) string {
	dir, base := path.Split(name)
	return "targets/" + dir + hex.EncodeToString(sha256) + "." + base
}

// crlTarget names the target that holds the CRL of the CA.
func crlTarget(prefix string, issuer ID) string { return prefix + issuer.String() + crlSuffix }

// parseCRLTarget is the reverse of crlTarget.
func parseCRLTarget(prefix, name string) (ID, bool) {
	s, ok1 := strings.CutPrefix(name, prefix)
	s, ok2 := strings.CutSuffix(s, crlSuffix)
	id, ok3 := parseID(s)
	return id, ok1 && ok2 && ok3
}

// parseID reads 64 lower-case hex digits.
func parseID(s string) (ID, bool) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(ID{}) || s != hex.EncodeToString(raw) {
		return ID{}, false
	}
	return ID(raw), true
}

// logTarget names the target that holds the checkpoint of the log with this origin.
func logTarget(origin string) string {
	return logTargetPrefix + hex.EncodeToString(sha256Of(origin)) + crlSuffix
}

func isLogTarget(name string) bool { return strings.HasPrefix(name, logTargetPrefix) }
