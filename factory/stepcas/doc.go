// Package stepcas lets a step-ca (github.com/smallstep/certificates) issue through hanaperd: with this one import in its main and the
// type "hanapercas" in its authority's configuration, what its provisioners have let in (ACME, SCEP, tokens) is enrolled by hanaperd,
// under hanaperd's record, lots and profiles. step-ca keeps no issuing key.
//
// To hanaperd it is a station, and no more: an attacker who holds step-ca's station key can enrol devices that are not enrolled
// yet, as any station's. One who also holds the operator key that the configuration may name can revoke. What hanaperd answers is
// held against the request, the common name that the provisioner approved, and the Fleet Root in a local file, before it is handed
// to step-ca: an attacker who can change answers can make requests fail, and nothing else.
//
// What a device's certificate holds is hanaperd's profile's to say. A provisioner's template decides who may ask and for which common
// name; its usages, names and validity are not taken over.
package stepcas
