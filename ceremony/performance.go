package ceremony

import (
	"context"
	"crypto"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

// way is one of the ways in which a script can be performed.
type way int

const (
	// onSpecimens is Validate's: keys live in memory and are thrown away, nobody is asked, and a key of an earlier ceremony
	// cannot sign.
	onSpecimens way = iota
	// forReal is that of Run, Resume and Abort: the script's tokens and its officers. Verify goes the same way along what
	// they left.
	forReal
	// inRehearsal is on throw-away tokens: keys of earlier ceremonies are not there, nobody's card opens a share, every
	// entry and every file is marked.
	inRehearsal
)

// performance is how a script is performed: in which way, and by what. A step asks it for all that differs, and never
// finds out the way by itself.
type performance struct {
	way way
	// write makes an entry durable. Without it the performance follows a finished transcript and does nothing else.
	write func([]byte) error
	// folder has the files of a finished ceremony that is followed: what it made is taken from there.
	folder map[string][]byte
	// clock gives the asserted time plus what has passed since.
	clock func() time.Time
	// tokens are open, by name.
	tokens map[string]hsm.Token
	// login opens tokens again; initialise makes blank ones. They are nil where a performance does neither.
	login      *login
	initialise Initialiser
	// custodians give PINs and wrapping keys; nil where nobody does.
	custodians Custodians
	// written gives the number of entries and the digest of the transcript so far; nil where none is written down.
	written func() (int64, [32]byte)
	// agree asks the people present to agree to what cannot be undone, and ask asks them for remarks; nil asks nobody.
	agree    func(what string) error
	ask      func(when string) ([]Remark, error)
	progress *term.Progress
	// stop shows what was done and asks the people present whether to go on; nil stops nowhere. expect says what is known
	// of a step before it is performed.
	stop   func(Stop) (Answer, Exception, error)
	expect func(step int) StepView
	// seen gets what there is to be seen of each step; may be nil.
	seen func(step int, s *shown)
}

// specimens performs a script in memory; note gets every entry.
func specimens(s *Script, note func([]byte) error) performance {
	p := performance{way: onSpecimens, write: note, clock: func() time.Time { return s.from }, tokens: map[string]hsm.Token{}, custodians: specimenPeople{}}
	made := &specimenKeys{}
	for n, uri := range s.tokens {
		p.tokens[n] = newSpecimenToken(n, uri, made)
	}
	return p
}

// along follows a finished transcript; folder has the files that its ceremony left, nil where it was aborted.
func along(rehearsal bool, folder map[string][]byte) performance {
	p := performance{way: forReal, folder: folder, clock: func() time.Time { return time.Time{} }}
	if rehearsal {
		p.way = inRehearsal
	}
	return p
}

// marked says whether every entry and file is marked as of a rehearsal.
func (p *performance) marked() bool { return p.way == inRehearsal }

// onSpecimens says whether nothing is there yet of what the script will make, but for its specimen.
func (p *performance) onSpecimens() bool { return p.way == onSpecimens }

// acts says whether entries can be added.
func (p *performance) acts() bool { return p.write != nil }

// certifies says whether TPMs certify births: a rehearsal has none, and its tokens know nothing of the ceremony's nonce.
func (p *performance) certifies() bool { return p.way == forReal }

// secrets says whether shares hold what a token will be opened with: only for real.
func (p *performance) secrets() bool { return p.way == forReal }

// lacks says whether one of the keys cannot sign here: it was taken up from an earlier ceremony, and is in no token of
// this performance.
func (p *performance) lacks(keys ...crypto.Signer) bool {
	return p.way != forReal && slices.ContainsFunc(keys, func(k crypto.Signer) bool {
		own, ok := k.(*key)
		return ok && own.imported
	})
}

// standFor puts what stands for a key that it lacks into its token.
func (p *performance) standFor(k *key) error {
	if t, ok := p.tokens[k.token].(*specimenToken); ok {
		t.add(nil, k.public, k.attrs)
	}
	return nil
}

// uri names the token that the script means. A rehearsal's has another serial.
func (p *performance) uri(u hsm.URI) hsm.URI {
	if p.way == inRehearsal {
		u.Serial = ""
	}
	return u
}

// open gives a token, opened again by its serial where it is not open.
func (p *performance) open(ctx context.Context, name string, uri hsm.URI) (hsm.Token, error) {
	if t, ok := p.tokens[name]; ok {
		return t, nil
	}
	if p.login == nil {
		return nil, refuse(RuleReference, "token %q does not exist at this step", name)
	}
	t, err := p.login.token(ctx, name, uri)
	if err != nil {
		return nil, err
	}
	p.tokens[name] = t
	return t, nil
}

// release closes a token for the time of an act by others; the next step that needs it opens it again.
func (p *performance) release(name string) error {
	t, ok := p.tokens[name]
	if !ok || p.login == nil {
		return nil
	}
	delete(p.tokens, name)
	return t.Close()
}

// asks says whether anybody is asked to agree.
func (p *performance) asks() bool { return p.agree != nil }

// confirm asks the people present to agree to what cannot be undone.
func (p *performance) confirm(what string) error {
	if p.agree == nil {
		return nil
	}
	return p.agree(what)
}

// remarks asks the people present what to record.
func (p *performance) remarks(when string) ([]Remark, error) {
	if p.ask == nil {
		return nil, nil
	}
	return p.ask(when)
}

// isBlank says whether a token that a step makes is still to be made: a specimen never is.
func (p *performance) isBlank(name string) bool { return p.tokens[name] == nil }

// blank makes a blank token the one that the script calls name. Its first PINs are typed.
func (p *performance) blank(ctx context.Context, name string, uri hsm.URI) (hsm.TokenInfo, error) {
	if p.initialise == nil || p.custodians == nil || p.login == nil {
		return hsm.TokenInfo{}, advice.New(advice.Usage, "", "nobody can initialise token %q here", name)
	}
	info := hsm.TokenInfo{Label: uri.Token, Serial: uri.Serial}
	so, err := p.custodians.PIN(ctx, name, "so", info)
	if err != nil {
		return info, err
	}
	defer clear(so)
	user, err := p.custodians.PIN(ctx, name, "user", info)
	if err != nil {
		return info, err
	}
	defer clear(user)
	return p.initialise(ctx, name, uri, so, user)
}

// pinChanged notes that the token has the user PIN of these shares now.
func (p *performance) pinChanged(token string, d *quorum.Shares) {
	if p.login != nil && p.secrets() {
		p.login.pins[token] = []*quorum.Shares{d}
	}
}

// openedWith says whether a token was opened with the PIN of these shares.
func (p *performance) openedWith(token string, d *quorum.Shares) bool {
	with := p.login.with[token]
	return with != nil && with.Digest() == d.Digest()
}

// keepers are those who hold secrets, or an error that says that nobody does.
func (p *performance) keepers(what string) (Custodians, error) {
	if p.custodians == nil {
		return nil, advice.New(advice.Usage, "give the decryption keys of the custodians present", "nobody holds %s", show.Line(what))
	}
	return p.custodians, nil
}

// wrappingKey puts the wrapping key together. Where no card is there it is one of the performance's own.
func (p *performance) wrappingKey(ctx context.Context, shares *quorum.Shares) ([]byte, error) {
	c, err := p.keepers("the wrapping key")
	if err != nil {
		return nil, err
	}
	if !p.secrets() {
		sum := sha256.Sum256(append([]byte("hanaper rehearsal "), shares.Data()...))
		return sum[:], nil
	}
	secret, err := c.Secret(ctx, shares)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	return secret.Key()
}

// witnessed asks that a witness is among those present, and is not the only one.
func (p *performance) witnessed(name string, present []officerRecord) error {
	if p.way != forReal {
		return nil
	}
	if len(present) < 2 || !slices.ContainsFunc(present, func(o officerRecord) bool { return o.Name == name }) {
		return refuse(RuleWitness, "the witness %q must be present, with a key to sign the transcript, and somebody else to act", name)
	}
	return nil
}
