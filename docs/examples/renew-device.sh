#!/bin/sh
# renew-device.sh: a device renews its certificate through the gateway, with openssl and curl alone (docs/spec/renewal.md).
#
#   renew-device.sh https://GATEWAY:PORT GATEWAY-ROOT.pem FOLDER [new]
#
# FOLDER holds client.pem (the device's certificate first) and pkey.pem, as a station leaves them. With "new" the next certificate is for a new key,
# which the old one vouches for. Run it as often as you like: what was begun is gone on with, and the same request gets the same certificate.
# Exit code 0: renewed; 75: try again later; 1: refused, the gateway's words are on standard error.
set -eu
umask 077
gateway=$1 root=$2
mkdir -p "$3/renewal"
cd "$3"

# A run that was cut short after its certificate was there: the new pair is put in place first.
install_pair() {
	test -d renewal/ready || return 0
	test ! -f renewal/ready/pkey.pem || mv renewal/ready/pkey.pem pkey.pem
	test ! -f renewal/ready/client.pem || mv renewal/ready/client.pem client.pem
	sync
	rm -rf renewal
}
if [ -d renewal/ready ]; then
	install_pair
	exit 0
fi

openssl x509 -in client.pem -outform DER -out renewal/old.der
id=$(openssl x509 -in client.pem -noout -subject -nameopt sep_multiline,utf8 | sed -n 's/^ *CN=//p')
key=pkey.pem
if [ "${4:-same}" = new ]; then
	# The new key is kept before anybody is asked: a second one would not be taken.
	key=renewal/new.key
	test -s $key || { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out renewal/new.tmp 2>/dev/null && mv renewal/new.tmp $key && sync; }
	openssl pkey -in $key -pubout -outform DER -out renewal/spki.der
	digest() { openssl dgst -sha256 -r "$1" | cut -d ' ' -f 1; }
	printf 'hanaper-renewal/1\ncertificate %s\nkey %s\n' "$(digest renewal/old.der)" "$(digest renewal/spki.der)" >renewal/message
	case $(openssl x509 -in client.pem -noout -text | grep -E 'Public Key Algorithm|ASN1 OID') in
	*ED25519*) openssl pkeyutl -sign -rawin -inkey pkey.pem -in renewal/message -out renewal/proof ;;
	*secp384r1*) openssl dgst -sha384 -sign pkey.pem -out renewal/proof renewal/message ;;
	*secp521r1*) openssl dgst -sha512 -sign pkey.pem -out renewal/proof renewal/message ;;
	*) openssl dgst -sha256 -sign pkey.pem -out renewal/proof renewal/message ;;
	esac
fi

# The request: the CN of the certificate, and for a new key the proof.
{
	printf 'oid_section = oids\n[oids]\nrenewalProof = 2.25.255836406353030723597025368142648122932\n'
	printf '[req]\nprompt = no\ndistinguished_name = dn\n'
	test $key = pkey.pem || printf 'attributes = proof\n'
	printf '[dn]\nCN = %s\n' "$id"
	test $key = pkey.pem || printf '[proof]\nrenewalProof = %s\n' "$(openssl base64 -A -in renewal/proof)"
} >renewal/req.cnf
openssl req -new -config renewal/req.cnf -key $key -outform DER | openssl base64 -A >renewal/request

status=$(curl --silent --show-error --cacert "$root" --cert client.pem --key pkey.pem --max-time 60 -H 'Content-Type: application/pkcs10' --data-binary @renewal/request \
	--output renewal/answer --write-out '%{http_code}' "$gateway/.well-known/est/simplereenroll") || exit 75
case $status in
200) ;;
202 | 429 | 5??) exit 75 ;;
*)
	cat renewal/answer >&2
	exit 1
	;;
esac

# The answer is looked at before it takes the place of what works: this key, this id, valid.
tr -d '\r\n' <renewal/answer | openssl base64 -d -A | openssl pkcs7 -inform DER -print_certs | openssl x509 -out renewal/client.pem
test "$(openssl x509 -in renewal/client.pem -noout -pubkey)" = "$(openssl pkey -in $key -pubout)"
test "$(openssl x509 -in renewal/client.pem -noout -subject)" = "$(openssl x509 -in client.pem -noout -subject)"
openssl x509 -in renewal/client.pem -noout -checkend 0 >/dev/null
mkdir -p renewal/tmp
cp renewal/client.pem renewal/tmp/client.pem
cp $key renewal/tmp/pkey.pem
sync
mv renewal/tmp renewal/ready
install_pair
