package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// object is something loaded in the TPM, for the time of one operation.
type object struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public *tpm2.TPMTPublic
}

// with is the object together with what authorises its use.
func (o object) with(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: s}
}

// nonceSize is that of session nonces, in bytes.
const nonceSize = 16

// direction is which first parameter crosses the bus encrypted: the command's, the answer's, or both. Only a sized buffer can be.
type direction int

const (
	in direction = iota
	out
	both
)

// salted are the options of a session that hides a PIN and a parameter from the bus: its key comes from a secret encrypted to
// the storage root key.
func salted(root object, auth []byte, d direction) []tpm2.AuthOption {
	way := tpm2.EncryptIn
	switch d {
	case out:
		way = tpm2.EncryptOut
	case both:
		way = tpm2.EncryptInOut
	}
	return []tpm2.AuthOption{tpm2.Auth(auth), tpm2.Salted(root.handle, *root.public), tpm2.AESEncryption(128, way)}
}

// session authorises one command with a PIN, or with none, and ends with it.
func session(root object, auth []byte, d direction) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, salted(root, auth, d)...)
}

// readName reads the public area of a handle, which must have the name.
func readName(w *wire, h tpm2.TPMHandle) (*tpm2.TPMTPublic, tpm2.TPM2BName, error) {
	answer, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(w)
	if err != nil {
		return nil, tpm2.TPM2BName{}, err
	}
	pub, err := answer.OutPublic.Contents()
	if err != nil {
		return nil, tpm2.TPM2BName{}, err
	}
	name, err := tpm2.ObjectName(pub)
	if err != nil {
		return nil, tpm2.TPM2BName{}, err
	}
	if !bytes.Equal(name.Buffer, answer.Name.Buffer) {
		return nil, tpm2.TPM2BName{}, fmt.Errorf("the TPM gives the object at 0x%08x a name that is not its own", uint32(h))
	}
	return pub, *name, nil
}

// makeRoot finds the storage root key at one of its usual places, or makes it, which gives the same key each time.
func makeRoot(w *wire) (object, error) {
	want := storageRoot()
	for _, h := range storageRootPlaces {
		if pub, name, err := readName(w, h); err == nil && like(pub, &want) {
			return object{h, name, pub}, nil
		}
	}
	root, err := createPrimary(w, tpm2.TPMRHOwner, want, "storage root key")
	if wrongPIN(err) {
		return object{}, fmt.Errorf("the storage hierarchy has a password of its own, and no storage root key lies at 0x81000001: make one with tpm2_createprimary -C o -P PASSWORD -G ecc -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt' and tpm2_evictcontrol: %w", err)
	}
	return root, err
}

// createPrimary makes a primary object of a hierarchy, and holds it to its template.
func createPrimary(w *wire, hierarchy tpm2.TPMHandle, want tpm2.TPMTPublic, what string) (object, error) {
	answer, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(want)}.Execute(w)
	if err != nil {
		return object{}, err
	}
	w.keep(answer.ObjectHandle)
	pub, err := answer.OutPublic.Contents()
	if err != nil {
		return object{}, err
	}
	name, err := tpm2.ObjectName(pub)
	if err != nil {
		return object{}, err
	}
	if !like(pub, &want) {
		return object{}, fmt.Errorf("the TPM made another %s than it was asked for", what)
	}
	return object{answer.ObjectHandle, *name, pub}, nil
}

// like says whether a public area is what a template describes; the template leaves the unique field open.
func like(pub, template *tpm2.TPMTPublic) bool {
	p, t := *pub, *template
	p.Unique, t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}), tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})
	p.Type, t.Type = tpm2.TPMAlgKeyedHash, tpm2.TPMAlgKeyedHash
	if pub.Type != template.Type {
		return false
	}
	p.Parameters, t.Parameters = nullParms(), nullParms()
	return bytes.Equal(tpm2.Marshal(p), tpm2.Marshal(t)) && bytes.Equal(parameters(pub), parameters(template))
}

func nullParms() tpm2.TPMUPublicParms {
	return tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}})
}

// parameters encodes the parameters of a key.
func parameters(p *tpm2.TPMTPublic) []byte {
	if ec, err := p.Parameters.ECCDetail(); err == nil && p.Type == tpm2.TPMAlgECC {
		return tpm2.Marshal(*ec)
	}
	if rsa, err := p.Parameters.RSADetail(); err == nil && p.Type == tpm2.TPMAlgRSA {
		return tpm2.Marshal(*rsa)
	}
	return nil
}

// errCleared says that the store's storage root key is not this TPM's.
var errCleared = errors.New("its storage root key is not that of this TPM: the store belongs to another TPM, or this one was cleared since, which destroyed all its keys")

// root loads the storage root key of the store.
func (t *Token) root(w *wire) (object, error) {
	t.mu.Lock()
	saved := t.savedRoot
	t.mu.Unlock()
	if saved != nil {
		if answer, err := (tpm2.ContextLoad{Context: *saved}).Execute(w); err == nil {
			w.keep(answer.LoadedHandle)
			return object{answer.LoadedHandle, t.rootName, t.rootPublic}, nil
		}
		// The TPM was started anew since: its contexts are of no use any more.
	}
	o, err := makeRoot(w)
	if err != nil {
		return o, err
	}
	if !bytes.Equal(o.name.Buffer, t.rootName.Buffer) {
		return o, advice.New(advice.Failed, "is this the right machine, and the right folder? What a cleared TPM destroyed comes back from nowhere", "%w: %w", hsm.ErrNoToken, errCleared)
	}
	o.public = t.rootPublic // the recorded one, which has the same name
	if o.handle>>24 == 0x80 {
		t.save(w, o.handle, func(c *tpm2.TPMSContext) { t.savedRoot = c })
	}
	return o, nil
}

// save keeps the context of a loaded object, which is loaded again faster than the object itself. It does no harm if the TPM saves none.
func (t *Token) save(w *wire, h tpm2.TPMHandle, keep func(*tpm2.TPMSContext)) {
	answer, err := tpm2.ContextSave{SaveHandle: h}.Execute(w)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		keep(nil)
		return
	}
	keep(&answer.Context)
}

// load loads an object that the TPM wrapped for the storage root key.
func load(w *wire, root object, b *blob) (object, error) {
	pub, err := b.area()
	if err != nil {
		return object{}, err
	}
	name, err := tpm2.ObjectName(pub)
	if err != nil {
		return object{}, err
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](b.private)
	if err != nil {
		return object{}, errBlob
	}
	answer, err := tpm2.Load{ParentHandle: root.with(session(root, nil, in)), InPrivate: *private, InPublic: tpm2.New2B(*pub)}.Execute(w)
	if err != nil {
		return object{}, err
	}
	w.keep(answer.ObjectHandle)
	if !bytes.Equal(answer.Name.Buffer, name.Buffer) {
		return object{}, errors.New("the TPM loaded another object than it was given")
	}
	return object{answer.ObjectHandle, *name, pub}, nil
}

// create makes an object below the storage root key, with a PIN and, for sealed data, the data.
func create(w *wire, root object, template tpm2.TPMTPublic, pin, data []byte) (*blob, error) {
	sensitive := tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: pin}}
	if data != nil {
		sensitive.Data = tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data})
	}
	answer, err := tpm2.Create{ParentHandle: root.with(session(root, nil, both)), InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &sensitive}, InPublic: tpm2.New2B(template)}.Execute(w)
	if err != nil {
		return nil, err
	}
	return &blob{sealed: template.Type == tpm2.TPMAlgKeyedHash, open: len(pin) == 0, parent: tpm2.TPMRHOwner,
		public: tpm2.Marshal(answer.OutPublic), private: tpm2.Marshal(answer.OutPrivate)}, nil
}
