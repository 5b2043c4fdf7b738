package pkcs11_test

// What several say.
const (
	mechanismInvalid = `another program asks the token for a key: pkcs11: 0x70: CKR_MECHANISM_INVALID`
	wrongPIN         = `TOKEN: user PIN: PIN refused (pkcs11: 0xA0: CKR_PIN_INCORRECT): how many tries are left, the token does not say; hint: it is not tried again by itself; make sure that it is this token's PIN`
	madeWrappable    = `TOKEN: generate key "LABEL": what the token made is refused, and was destroyed: attributes are not those of the key's class: it can be wrapped (CKM_AES_KEY_WRAP_PAD), whatever the token says of CKA_EXTRACTABLE and CKA_WRAP_WITH_TRUSTED; hint: this token does not make keys as they are asked for: let another one make them (docs/pkcs11.md has those that were tried)`
	noOfficer        = `TOKEN: as security officer: pkcs11: 0x103: CKR_USER_TYPE_INVALID; hint: this token has no security officer, so nobody can mark a wrapping key as trusted: it makes no backups`
	noEd25519        = "TOKEN: generate Ed25519: not supported by the token (CKM_EC_EDWARDS_KEY_PAIR_GEN); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms"
	signsOn          = `signs on while it is away`
	noProcess        = `runs in the program itself`
	wrongPINCounted  = `TOKEN: user PIN: PIN refused (pkcs11: 0xA0: CKR_PIN_INCORRECT): tries are low; hint: it is not tried again by itself; make sure that it is this token's PIN`
	noP256           = "TOKEN: generate P-256: not supported by the token (CKM_EC_KEY_PAIR_GEN); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms"
	noWrapping       = "TOKEN: back up a key: not supported by the token (CKM_AES_KEY_WRAP_PAD); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms"
	noP384           = "TOKEN: generate P-384: not supported by the token (CKM_EC_KEY_PAIR_GEN); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms"
	noSuchKey        = `the card has no such key`
	noRSA2048        = "TOKEN: generate RSA-2048: not supported by the token (CKM_RSA_PKCS_KEY_PAIR_GEN); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms"
	hangs            = `TOKEN: sign with key "LABEL" with id ID: context deadline exceeded; hint: the token is slow or busy, or hangs: look at it and its connection, or allow more time or more sessions`
	oaepSHA1         = `OAEP with SHA-1`
	valueInvalid     = `another program asks the token for a key: pkcs11: 0x13: CKR_ATTRIBUTE_VALUE_INVALID`
	madeOtherwise    = `TOKEN: generate key "LABEL": what the token made is refused, and was destroyed: attributes are not those of the key's class: its uses are not the one asked for; hint: tpm2-pkcs11 makes keys that do more than they are asked for: name the TPM by a tpm: URI, without that library`
	madeDecrypting   = `TOKEN: generate key "LABEL": what the token made is refused, and was destroyed: attributes are not those of the key's class sealed: CKA_DECRYPT is true; hint: tpm2-pkcs11 makes keys that do more than they are asked for: name the TPM by a tpm: URI, without that library`
)

// expected is what each peer says where it cannot do something, or has something to say although it can. A row that is not here works
// without a word.
var expected = map[string]map[string]string{
	"softhsm": {
		"a wrong PIN": wrongPINCounted,
		"an officer's key for decryption, RSA-2048": oaepSHA1,
		"it goes away and comes back":               `TOKEN: token went away: pkcs11: 0x5: CKR_GENERAL_ERROR (context deadline exceeded); hint: look at the token, its connection and its own log; check SOFTHSM2_CONF, and that this user may read and write the folder that it names`,
		"it hangs for a while":                      noProcess,
	},
	"tpm2": {
		"a wrong PIN":                               wrongPIN,
		"generate P-256":                            madeDecrypting,
		"generate P-384":                            madeDecrypting,
		"generate RSA-2048":                         madeDecrypting,
		"generate RSA-3072":                         madeDecrypting,
		"generate RSA-4096":                         "TOKEN: generate RSA-4096: not supported by the token (it takes 1024 to 3072 bits); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms",
		"generate Ed25519":                          noEd25519,
		"an officer's key for agreement, P-256":     madeOtherwise,
		"an officer's key for decryption, RSA-2048": madeOtherwise,
		"backed up and restored, P-256":             noWrapping,
		"backed up and restored, RSA-2048":          noWrapping,
		"RSA-4096 PKCS #1":                          valueInvalid,
		"RSA-4096 PSS":                              valueInvalid,
		"Ed25519":                                   mechanismInvalid,
		"all keys in turn, in one program":          `TOKEN: sign with key "LABEL" with id ID: pkcs11: 0x5: CKR_GENERAL_ERROR; hint: look at the token, its connection and its own log; check TPM2_PKCS11_TCTI, which says where the TPM is, and TPM2_PKCS11_STORE, the folder of its tokens, which must exist`,
		"the attributes of a sealed key read back":  `attributes are not those of the key's class sealed: CKA_DECRYPT is true`,
		"it goes away and comes back":               `TOKEN: token went away: pkcs11: 0x5: CKR_GENERAL_ERROR (context deadline exceeded); hint: look at the token, its connection and its own log; check TPM2_PKCS11_TCTI, which says where the TPM is, and TPM2_PKCS11_STORE, the folder of its tokens, which must exist`,
		"it hangs for a while":                      hangs,
	},
	"nss": {
		"a wrong PIN": wrongPIN,
		"a blank one is initialised (`hanaper token init`)": "initialise token \"LABEL\" in /.../libsoftokn3.so: no such token: none is blank; hint: `hanaper token list` shows what is there; a token that is in use is emptied with its maker's own tool",
		"generate P-256":                                    madeWrappable,
		"generate P-384":                                    madeWrappable,
		"generate RSA-2048":                                 madeWrappable,
		"generate RSA-3072":                                 madeWrappable,
		"generate RSA-4096":                                 madeWrappable,
		"generate Ed25519":                                  noEd25519,
		"an officer's key for agreement, P-256":             madeWrappable,
		"an officer's key for decryption, RSA-2048":         madeWrappable,
		"backed up and restored, P-256":                     noOfficer,
		"backed up and restored, RSA-2048":                  noOfficer,
		"Ed25519":                                           mechanismInvalid,
		"the attributes of a sealed key read back":          `attributes are not those of the key's class sealed: CKA_LOCAL is false`,
		"refuses to wrap it":                                `attributes are not those of the key's class: it can be wrapped (CKM_AES_KEY_WRAP_PAD), whatever the token says of CKA_EXTRACTABLE and CKA_WRAP_WITH_TRUSTED`,
		"two keys of one id are told apart by their labels": `the token kept "second" alone, and the other is lost`,
		"it goes away and comes back":                       signsOn,
		"it hangs for a while":                              noProcess,
	},
	"opencryptoki": {
		"a wrong PIN": wrongPINCounted,
		"a blank one is initialised (`hanaper token init`)": `initialise token "LABEL" in /.../libopencryptoki.so: C_InitToken: pkcs11: 0xA0: CKR_PIN_INCORRECT; hint: this token has an SO PIN already, which its maker set: initialise it with the maker's own tool, which changes that PIN (openCryptoki: pkcsconf -I, then -P, then -u)`,
		"generate P-256":                            noP256,
		"generate P-384":                            noP384,
		"generate Ed25519":                          noEd25519,
		"an officer's key for agreement, P-256":     noP256,
		"an officer's key for decryption, RSA-2048": `OAEP with SHA-256`,
		"backed up and restored, P-256":             noWrapping,
		"backed up and restored, RSA-2048":          noWrapping,
		"P-256":                                     mechanismInvalid,
		"P-384":                                     mechanismInvalid,
		"Ed25519":                                   mechanismInvalid,
		"it goes away and comes back":               signsOn,
		"it hangs for a while":                      `signs on while its daemon is stopped`,
	},
	"p11-kit-client": {
		"a wrong PIN":                               wrongPINCounted,
		"generate Ed25519":                          noEd25519,
		"an officer's key for agreement, P-256":     "TOKEN: generate key \"LABEL\": what the token made is refused, and was destroyed: test agreement: pkcs11: 0x70: CKR_MECHANISM_INVALID; hint: this token lacks it; `hanaper token show` lists its mechanisms",
		"an officer's key for decryption, RSA-2048": oaepSHA1,
		"backed up and restored, P-256":             noWrapping,
		"backed up and restored, RSA-2048":          noWrapping,
		"Ed25519":                                   mechanismInvalid,
		"it goes away and comes back":               `TOKEN: token went away: TOKEN: no such token: /.../p11-kit-client.so shows no initialised token at all (context deadline exceeded); hint: bring the token back; the program goes on by itself`,
		"it hangs for a while":                      hangs,
	},
	"p11-kit-proxy": {
		"a wrong PIN": wrongPINCounted,
		"an officer's key for decryption, RSA-2048": oaepSHA1,
		"it goes away and comes back":               `TOKEN: token went away: TOKEN: no such token: /.../p11-kit-proxy.so shows no initialised token at all (context deadline exceeded); hint: bring the token back; the program goes on by itself`,
		"it hangs for a while":                      noProcess,
	},
	"opensc": {
		"a wrong PIN": wrongPIN,
		"a blank one is initialised (`hanaper token init`)": "initialise token \"LABEL\" in /.../opensc-pkcs11.so: no such token: none is blank; hint: `hanaper token list` shows what is there; a token that is in use is emptied with its maker's own tool",
		"generate P-256":                            noP256,
		"generate P-384":                            noP384,
		"generate RSA-2048":                         noRSA2048,
		"generate RSA-3072":                         "TOKEN: generate RSA-3072: not supported by the token (CKM_RSA_PKCS_KEY_PAIR_GEN); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms",
		"generate RSA-4096":                         "TOKEN: generate RSA-4096: not supported by the token (CKM_RSA_PKCS_KEY_PAIR_GEN); hint: choose another algorithm or token; `hanaper token show` lists the mechanisms",
		"generate Ed25519":                          noEd25519,
		"an officer's key for agreement, P-256":     noP256,
		"an officer's key for decryption, RSA-2048": noRSA2048,
		"backed up and restored, P-256":             noWrapping,
		"backed up and restored, RSA-2048":          noWrapping,
		"RSA-3072 PKCS #1":                          noSuchKey,
		"RSA-3072 PSS":                              noSuchKey,
		"RSA-4096 PKCS #1":                          noSuchKey,
		"RSA-4096 PSS":                              noSuchKey,
		"Ed25519":                                   noSuchKey,
		"two keys of one id are told apart by their labels": `the card gives each place for a key an id of its own`,
		"a certificate is stored and read":                  `TOKEN: store certificate "certificate": pkcs11: 0x54: CKR_FUNCTION_NOT_SUPPORTED; hint: the token's library has no such function: use the tool of the token's maker for it`,
		"a key is destroyed, and known to be gone":          `TOKEN: destroy key "LABEL" with id ID: pkcs11: 0x54: CKR_FUNCTION_NOT_SUPPORTED; hint: the token's library has no such function: use the tool of the token's maker for it`,
		"it goes away and comes back":                       `TOKEN: token went away: TOKEN: no such token: /.../opensc-pkcs11.so shows no initialised token at all (context deadline exceeded); hint: bring the token back; the program goes on by itself`,
		"it hangs for a while":                              hangs,
	},
}
