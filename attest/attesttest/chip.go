package attesttest

import (
	"crypto"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// ekCertificateIndex is where the certificate of the RSA endorsement key lies (TCG EK Credential Profile, section 2.2.1.4).
const ekCertificateIndex = 0x01c00002

// Chip is a software TPM with an endorsement certificate of its maker.
type Chip struct {
	TPM transport.TPM
	// Socket is the unix socket that the TPM serves commands on.
	Socket string
	// EKChain is the endorsement certificate and the intermediate's, DER.
	EKChain [][]byte
	// EKPublic is the endorsement key's TPMT_PUBLIC.
	EKPublic []byte
	EK       tpm2.NamedHandle
	// open says that the endorsement key is used with its empty password, as those of the TCG's high range may be, instead of by policy.
	open bool
}

// NewChip sets up a TPM, lets the maker certify its endorsement key, and starts it.
func (m *Maker) NewChip(t testing.TB) *Chip {
	t.Helper()
	state, ca := t.TempDir(), t.TempDir()
	setup := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert", "--config", m.files(t, ca), "--overwrite",
		"--logfile", filepath.Join(ca, "log"))
	if out, err := setup.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(ca, "log"))
		t.Fatalf("%v: install the packages of scripts/packages-test.txt: %s%s", err, out, log)
	}
	c := &Chip{Socket: Start(t, state)}
	tpm, err := linuxudstpm.Open(c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tpm.Close() })
	c.TPM = tpm
	c.EKChain = [][]byte{c.nv(t, ekCertificateIndex), m.Intermediate.Raw}
	// swtpm_setup has put the endorsement key where the TCG EK Credential Profile has it.
	c.EK.Handle = 0x81010001
	ek, err := tpm2.ReadPublic{ObjectHandle: c.EK.Handle}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	c.EK.Name, c.EKPublic = ek.Name, ek.OutPublic.Bytes()
	return c
}

// Start runs swtpm on a state folder and returns its socket.
func Start(t testing.TB, state string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // a unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install the packages of scripts/packages-test.txt", err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	for range 200 {
		if _, err := os.Stat(socket + ".ctrl"); err == nil {
			if c, err := net.Dial("unix", socket); err == nil { // the file is there before anybody listens
				c.Close()
				return socket
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm did not start")
	return ""
}

func (c *Chip) nv(t testing.TB, index tpm2.TPMHandle) []byte {
	t.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c.TPM)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for len(data) < int(contents.DataSize) {
		part, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: index, Name: public.NVName}, Size: min(512, contents.DataSize-uint16(len(data))), Offset: uint16(len(data))}.Execute(c.TPM)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, part.Data.Buffer...)
	}
	return data
}

// Object is a key that is loaded.
type Object struct {
	chip   *Chip
	Handle tpm2.NamedHandle
	// Public is its TPMT_PUBLIC; Key the same in Go's types.
	Public []byte
	Key    crypto.PublicKey
}

// AKTemplate is that of a good attestation key, which a test may change.
func AKTemplate() tpm2.TPMTPublic {
	return eccKey(tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})})
}

// KeyTemplate is that of a good device key.
func KeyTemplate() tpm2.TPMTPublic {
	return eccKey(tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true},
		tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull})
}

func eccKey(a tpm2.TPMAObject, scheme tpm2.TPMTECCScheme) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: a,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: scheme, CurveID: tpm2.TPMECCNistP256, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})}
}

// New makes a primary key under the owner hierarchy; seed makes keys of one template differ.
func (c *Chip) New(t testing.TB, template tpm2.TPMTPublic, seed string) *Object {
	t.Helper()
	if template.Type == tpm2.TPMAlgECC {
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte(seed)}})
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(c.TPM)
	if err != nil {
		t.Fatal(err)
	}
	o := &Object{chip: c, Handle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, Public: made.OutPublic.Bytes()}
	area, err := made.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	if o.Key, err = tpm2.Pub(*area); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = tpm2.FlushContext{FlushHandle: o.Handle.Handle}.Execute(c.TPM) })
	return o
}

// Flush unloads a key.
func (c *Chip) Flush(t testing.TB, h tpm2.TPMHandle) {
	t.Helper()
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c.TPM); err != nil {
		t.Fatal(err)
	}
}

// Certify lets ak certify key.
func (ak *Object) Certify(t testing.TB, key *Object, qualifying []byte) (statement, signature []byte) {
	t.Helper()
	r, err := tpm2.Certify{ObjectHandle: tpm2.AuthHandle{Handle: key.Handle.Handle, Name: key.Handle.Name, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:     tpm2.AuthHandle{Handle: ak.Handle.Handle, Name: ak.Handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying}, InScheme: ak.scheme(t)}.Execute(ak.chip.TPM)
	if err != nil {
		t.Fatal(err)
	}
	return r.CertifyInfo.Bytes(), tpm2.Marshal(r.Signature)
}

// Quote lets ak quote registers.
func (ak *Object) Quote(t testing.TB, which tpm2.TPMLPCRSelection, qualifying []byte) (statement, signature []byte) {
	t.Helper()
	r, err := tpm2.Quote{SignHandle: tpm2.AuthHandle{Handle: ak.Handle.Handle, Name: ak.Handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying}, InScheme: ak.scheme(t), PCRSelect: which}.Execute(ak.chip.TPM)
	if err != nil {
		t.Fatal(err)
	}
	return r.Quoted.Bytes(), tpm2.Marshal(r.Signature)
}

// scheme is the null scheme for a key that has its own, and ECDSA for one that has none.
func (ak *Object) scheme(t testing.TB) tpm2.TPMTSigScheme {
	t.Helper()
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](ak.Public)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := area.Parameters.ECCDetail(); err == nil && p.Scheme.Scheme == tpm2.TPMAlgNull {
		return ecdsaScheme()
	}
	return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}
}

func ecdsaScheme() tpm2.TPMTSigScheme {
	return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
}

// Sign lets a key sign any data that its TPM agrees to; err is the TPM's answer.
func (o *Object) Sign(data []byte) (signature []byte, err error) {
	hashed, err := tpm2.Hash{Data: tpm2.TPM2BMaxBuffer{Buffer: data}, HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHOwner}.Execute(o.chip.TPM)
	if err != nil {
		return nil, err
	}
	scheme := ecdsaScheme()
	r, err := tpm2.Sign{KeyHandle: tpm2.AuthHandle{Handle: o.Handle.Handle, Name: o.Handle.Name, Auth: tpm2.PasswordAuth(nil)},
		Digest: hashed.OutHash, InScheme: scheme, Validation: hashed.Validation}.Execute(o.chip.TPM)
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(r.Signature), nil
}

// Activate answers a credential; err is the TPM's answer.
func (c *Chip) Activate(ak *Object, blob, encrypted []byte) ([]byte, error) {
	if c.open {
		return c.activate(ak, tpm2.PasswordAuth(nil), blob, encrypted)
	}
	session, done, err := tpm2.PolicySession(c.TPM, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return nil, err
	}
	defer func() { _ = done() }()
	if _, err := (tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: session.Handle(),
		NonceTPM: session.NonceTPM()}).Execute(c.TPM); err != nil {
		return nil, err
	}
	return c.activate(ak, session, blob, encrypted)
}

func (c *Chip) activate(ak *Object, auth tpm2.Session, blob, encrypted []byte) ([]byte, error) {
	r, err := tpm2.ActivateCredential{ActivateHandle: tpm2.AuthHandle{Handle: ak.Handle.Handle, Name: ak.Handle.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: c.EK.Handle, Name: c.EK.Name, Auth: auth},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: encrypted}}.Execute(c.TPM)
	if err != nil {
		return nil, err
	}
	return r.CertInfo.Buffer, nil
}

// EKCertificate is the chip's certificate.
func (c *Chip) EKCertificate(t testing.TB) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(c.EKChain[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Unload unloads the key, so that another has room.
func (o *Object) Unload(t testing.TB) {
	t.Helper()
	o.chip.Flush(t, o.Handle.Handle)
}

// SignDigest lets a key that is not restricted sign a SHA-256 digest; the TPM does not ask where it comes from.
func (o *Object) SignDigest(digest []byte) ([]byte, error) {
	r, err := tpm2.Sign{KeyHandle: tpm2.AuthHandle{Handle: o.Handle.Handle, Name: o.Handle.Name, Auth: tpm2.PasswordAuth(nil)},
		Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: ecdsaScheme(), Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(o.chip.TPM)
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(r.Signature), nil
}

// ECC is the same chip seen by its endorsement key on P-384, which swtpm_setup makes and has certified too (TCG EK Credential Profile, template H-3).
func (c *Chip) ECC(t testing.TB, m *Maker) *Chip {
	t.Helper()
	d := &Chip{TPM: c.TPM, Socket: c.Socket, EKChain: [][]byte{c.nv(t, 0x01c00016), m.Intermediate.Raw}, open: true}
	d.EK.Handle = 0x81010016
	ek, err := tpm2.ReadPublic{ObjectHandle: d.EK.Handle}.Execute(c.TPM)
	if err != nil {
		t.Fatal(err)
	}
	d.EK.Name, d.EKPublic = ek.Name, ek.OutPublic.Bytes()
	return d
}
