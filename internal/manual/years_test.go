package manual

import (
	"fmt"
	"strings"
	"testing"
)

// outside is what happens outside of the officers' page, before its first section: factories, services and the company's CA make
// their keys and send what they send.
const outside = `mkdir requests
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$2 -out $1.key 2>/dev/null; }
for n in factory-a factory-a-new factory-b line-3 gateway; do
  key $n P-256
  more=
  if [ $n = gateway ]; then more='-addext subjectAltName=DNS:gateway.example'; fi
  openssl req -new -key $n.key -subj "/CN=$n" $more -out requests/$n.csr
done
for role in snapshot timestamp crl; do key $role P-256; openssl pkey -in $role.key -pubout -out requests/trust-$role.pem; done
key company P-384
openssl req -x509 -new -key company.key -sha384 -subj "/O=Company/CN=Company Root" -days 9000 -addext keyUsage=critical,keyCertSign,cRLSign -out requests/company-root.pem
key plant P-256
openssl req -new -key plant.key -subj "/O=Company/CN=Plant CA" -out plant.csr
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > plant.ext
openssl x509 -req -in plant.csr -CA requests/company-root.pem -CAkey company.key -sha384 -days 8000 -set_serial 0x4f0a1b2c3d4e5f60718293a4b5c6d7e8 -extfile plant.ext -out requests/plant-ca.pem
`

// devices are made by a factory under both roots.
const devices = `mkdir devices
key device P-256
printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n' > device.ext
openssl req -new -key device.key -subj /CN=device-1 -out device.csr
openssl x509 -req -in device.csr -CA ceremony-1/artefacts/factory-a.pem -CAkey factory-a.key -days 5000 -extfile device.ext -out devices/old.pem
openssl x509 -req -in device.csr -CA ceremony-8/artefacts/factory-a-2.pem -CAkey factory-a.key -days 5000 -extfile device.ext -out devices/new.pem
`

// TestYears performs docs/runbooks/years.md as it stands: ten years of ceremonies on SoftHSM tokens, one chain.
func TestYears(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute and a half of CPU")
	}
	t.Parallel()
	parts := map[string]string{}
	readParts(t, "years", parts)
	var order []string
	for i := range len(parts) {
		name := fmt.Sprint("years ", i+1)
		if parts[name] == "" {
			t.Fatalf("section %d has no commands", i+1)
		}
		order = append(order, name)
	}
	parts[order[0]] = outside + parts[order[0]]
	dies := 0
	for _, name := range order {
		if strings.Contains(parts[name], " retire ") {
			parts[name] = devices + parts[name]
		}
		if strings.Contains(parts[name], " restore ") {
			parts[name], dies = "softhsm2-util --delete-token --token 'Fleet Roots'\n"+parts[name], dies+1
		}
	}
	if dies != 1 {
		t.Errorf("the token dies %d times", dies)
	}
	seen := perform(t, parts, order, "")
	for _, want := range shownBy(t, "years") {
		if !strings.Contains(seen, squeezed(want)) {
			t.Errorf("years.md says that you will see %q; it was not to be seen", want)
		}
	}
}
