package release

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

const golden = "testdata/manifest-1.json"

func good(t testing.TB) (*Manifest, []byte) {
	t.Helper()
	data, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(ManifestFile, data)
	if err != nil {
		t.Fatal(err)
	}
	return m, data
}

// TestGolden: a manifest of the first format is read as it is, for ever, and written as it is.
func TestGolden(t *testing.T) {
	m, data := good(t)
	if again, err := m.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("%v\n%s", err, again)
	}
	if m.Version != "v0.2.0" || m.Commit != "c7c4e5d0a2b3f4e5d6c7b8a9f0e1d2c3b4a59687" || len(m.Programs) != 2 || m.Files["image/hanaper.iso"].Size != 28311552 {
		t.Errorf("%+v", m)
	}
	if page, err := os.ReadFile("../docs/spec/release.md"); err != nil || !bytes.Contains(page, data) {
		t.Errorf("docs/spec/release.md does not have the example: %v", err)
	}
	if d, err := m.OnPlatform("linux", "amd64"); err != nil || d != m.Programs[Program] {
		t.Errorf("%s, %v", d, err)
	}
	for _, other := range [][2]string{{"linux", "arm64"}, {"windows", "amd64"}, {"", ""}} {
		if d, err := m.OnPlatform(other[0], other[1]); err == nil || d != "" || advice.KindOf(err) != advice.Refused {
			t.Errorf("%v: %s, %v", other, d, err)
		}
	}
}

// TestRefusals: what is not exactly a manifest is refused, and gives none.
func TestRefusals(t *testing.T) {
	_, data := good(t)
	digest := strings.Repeat("ab", 32)
	for name, c := range map[string]struct{ was, now, want string }{
		"a newer type":                   {`hanaper-release/1`, `hanaper-release/2`, "newer release"},
		"another type":                   {`hanaper-release/1`, `hanaper-order/1`, "type is"},
		"no type":                        {`"hanaper-release/1"`, `""`, "type is"},
		"an unknown key":                 {`"type"`, `"more": 1, "type"`, "more"},
		"a key twice":                    {`"version": "v0.2.0"`, `"version": "v0.2.0", "version": "v0.2.0"`, "twice"},
		"a key twice, in other case":     {`"version": "v0.2.0"`, `"Version": "v0.1.0", "version": "v0.2.0"`, "twice"},
		"a key twice, with a long s":     {`"commit":`, "\"file\u017f\": {}, \"commit\":", "twice"},
		"a program twice":                {`"hanaper": "`, `"hanaper": "` + digest + `", "hanaper": "`, "twice"},
		"a file twice":                   {`"sbom/hanaper.cdx.json": {`, `"sbom/hanaper.cdx.json": {"sha256": "` + digest + `", "size": 1}, "sbom/hanaper.cdx.json": {`, "twice"},
		"an escaped letter":              {`"v0.2.0"`, `"v0.2.\u0030"`, "one spelling"},
		"an escaped letter in a key":     {`"commit"`, `"c\u006fmmit"`, "one spelling"},
		"another order":                  {"  \"go\": \"go1.26.8\",\n  \"cc\": \"gcc (Debian 12.2.0-14+deb12u1) 12.2.0\",\n", "  \"cc\": \"gcc (Debian 12.2.0-14+deb12u1) 12.2.0\",\n  \"go\": \"go1.26.8\",\n", "one spelling"},
		"a blank more":                   {`"go": `, `"go":  `, "one spelling"},
		"something behind it":            {"}\n}\n", "}\n}\n{}", "follows"},
		"a line more":                    {"}\n}\n", "}\n}\n\n", "one spelling"},
		"no end":                         {"}\n}\n", "}\n", ""},
		"a version without v":            {`"v0.2.0"`, `"0.2.0"`, "version"},
		"half a version":                 {`"v0.2.0"`, `"v0.2"`, "version"},
		"a version with a zero":          {`"v0.2.0"`, `"v0.02.0"`, "version"},
		"a version with a build":         {`"v0.2.0"`, `"v0.2.0+x"`, "version"},
		"a version with lines":           {`"v0.2.0"`, `"v0.2.0\n"`, "version"},
		"digits of another script":       {`"v0.2.0"`, `"v0.２.0"`, "version"},
		"a dirty version":                {`"v0.2.0"`, `"v0.2.0_dirty"`, "version"},
		"a short commit":                 {`"c7c4e5d0`, `"c7c4e5`, "commit"},
		"a commit in capitals":           {`"c7c4e5d0`, `"C7C4E5D0`, "commit"},
		"a date in another zone":         {`06:54:00Z`, `06:54:00+01:00`, "date"},
		"a part of a second":             {`06:54:00Z`, `06:54:00.5Z`, "date"},
		"no platform":                    {`"linux/amd64"`, `"linux"`, "platform"},
		"a platform out of the way":      {`"linux/amd64"`, `"linux/../x"`, "platform"},
		"no toolchain":                   {`"go1.26.8"`, `""`, "go \"\""},
		"no compiler":                    {`"gcc (Debian 12.2.0-14+deb12u1) 12.2.0"`, `""`, "cc \"\""},
		"a toolchain that says more":     {`"go1.26.8"`, `"go1.26.8 | manifest, SHA-256"`, "go \"go1.26.8 |"},
		"a toolchain in two lines":       {`"go1.26.8"`, `"go1.26.8\n"`, "go \"go1.26.8"},
		"a compiler that steers":         {`"gcc (`, `"\u001b[2Jgcc (`, "cc \""},
		"a compiler right to left":       {`"gcc (`, "\"\u202egcc (", "cc \""},
		"a compiler with a column":       {`"gcc (`, `"gcc | manifest (`, "cc \""},
		"a compiler with a label":        {`"gcc (`, `"gcc manifest: (`, "cc \""},
		"a compiler with a digest":       {`"gcc (`, `"gcc d00dD00dd00dd00d (`, "cc \""},
		"a long compiler":                {`"gcc (`, `"` + strings.Repeat("gcc ", 20) + `(`, "cc \""},
		"a version with a digest":        {`"v0.2.0"`, `"v0.2.0-0123456789abcdef"`, "16 or more hexadecimal digits"},
		"a file with a digest":           {`"hanaper_0.2.0_amd64.deb"`, `"hanaper_0123456789abcdef_amd64.deb"`, "16 or more hexadecimal digits"},
		"a program with a digest":        {`"hanaperd": "`, `"hanaper-0123456789abcdef": "`, "16 or more hexadecimal digits"},
		"no program hanaper":             {`    "hanaper": "`, `    "hanaperx": "`, "program hanaper is missing"},
		"a program of another name":      {`"hanaperd": "`, `"../hanaperd": "`, "program"},
		"a look-alike":                   {`"hanaperd": "`, "\"hаnaperd\": \"", "program"},
		"a program without an SBOM":      {`"sbom/hanaperd.cdx.json"`, `"sbom/hanaperx.cdx.json"`, "sbom/hanaperd.cdx.json"},
		"a digest in capitals":           {`"f2ca1bb6`, `"F2CA1BB6`, "program"},
		"a short digest":                 {`"f2ca1bb6`, `"f2ca1b`, "program"},
		"a number as text":               {`28311552`, `"28311552"`, "want"},
		"an empty file":                  {`28311552`, `0`, "size"},
		"less than none":                 {`28311552`, `-1`, "size"},
		"a file without end":             {`28311552`, `8589934593`, "size"},
		"a size with a fraction":         {`28311552`, `28311552.0`, "want"},
		"a path out of the folder":       {`"hanaper_0.2.0_amd64.deb"`, `"../hanaper_0.2.0_amd64.deb"`, "path"},
		"an absolute path":               {`"hanaper_0.2.0_amd64.deb"`, `"/etc/hanaper.deb"`, "path"},
		"a path with a back slash":       {`"hanaper_0.2.0_amd64.deb"`, `"a\\hanaper.deb"`, "path"},
		"a hidden file":                  {`"hanaper_0.2.0_amd64.deb"`, `".hanaper.deb"`, "path"},
		"a path with two slashes":        {`"image/hanaper.efi"`, `"image//hanaper.efi"`, "path"},
		"a file in the ceremony":         {`"hanaper_0.2.0_amd64.deb"`, `"Ceremony/script.yaml"`, "ceremony's folder"},
		"a file in the ceremony's place": {`"hanaper_0.2.0_amd64.deb"`, `"ceremony"`, "ceremony's folder"},
		"the manifest itself":            {`"hanaper_0.2.0_amd64.deb"`, `"Manifest.json"`, "the manifest"},
		"the digests":                    {`"hanaper_0.2.0_amd64.deb"`, `"sha256sums"`, "digests"},
		"two in upper and lower case":    {`"hanaper_0.2.0_amd64.deb"`, `"IMAGE/image.json"`, "twice"},
		"a file below a file":            {`"hanaper_0.2.0_amd64.deb"`, `"sbom/hanaper.cdx.json/x"`, "below another file"},
		"no archive":                     {`"hanaper-v0.2.0-linux-amd64.tar.gz"`, `"hanaper-v0.2.1-linux-amd64.tar.gz"`, "hanaper-v0.2.0-linux-amd64.tar.gz"},
		"an image without image.json":    {`"image/image.json"`, `"image/other.json"`, "image.json is missing"},
		"a mark before it":               {"{\n  \"type\"", "\ufeff{\n  \"type\"", ""},
		"bytes that are no text":         {`"v0.2.0"`, "\"v0.2.\xff\"", "UTF-8"},
		"nothing":                        {string(data), ``, ""},
		"null":                           {string(data), `null`, "type is"},
		"a list":                         {string(data), `[]`, ""},
		"deep":                           {string(data), strings.Repeat("[", 100000), ""},
		"too large":                      {string(data), strings.Repeat(" ", MaxSize+1), "larger than"},
	} {
		changed := bytes.Replace(data, []byte(c.was), []byte(c.now), 1)
		if bytes.Equal(changed, data) {
			t.Fatalf("%s: %s is not in the example", name, c.was)
		}
		m, err := Parse(ManifestFile, changed)
		if err == nil || m != nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	for _, fine := range []string{"go1.26", "go1.27rc2", "go1.27beta1", "go1.100.10"} {
		if _, err := Parse(ManifestFile, bytes.Replace(data, []byte(`"go1.26.8"`), []byte(`"`+fine+`"`), 1)); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	m, _ := good(t)
	m.Files["x\x00"] = File{digest, 1}
	if data, err := m.Encode(); err == nil || data != nil {
		t.Errorf("written: %s", data)
	}
}

// TestVersions: the order of semantic versions, and one spelling of each.
func TestVersions(t *testing.T) {
	order := []string{"v0.1.0", "v0.1.9", "v0.1.10", "v0.2.0-alpha", "v0.2.0-rc.2", "v0.2.0-rc.10", "v0.2.0", "v1.0.0", "v10.0.0"}
	for i, a := range order {
		for j, b := range order {
			if Older(a, b) != (i < j) {
				t.Errorf("%s before %s: %v", a, b, Older(a, b))
			}
		}
		for _, text := range []string{a, a[1:]} {
			if v, err := ParseVersion(text); err != nil || v != a {
				t.Errorf("%s: %s, %v", text, v, err)
			}
		}
	}
	for _, bad := range []string{"", "v", "latest", "v1", "vv1.2.3", "1.2.3 ", "v1.2.3+1", "v01.2.3", "v9999999.0.0"} {
		if v, err := ParseVersion(bad); err == nil || advice.KindOf(err) != advice.Usage {
			t.Errorf("%q: %s, %v", bad, v, err)
		}
	}
}

// FuzzParse: what is taken is written as it was, and lists no path that leads out of a folder.
func FuzzParse(f *testing.F) {
	_, data := good(f)
	f.Add(data)
	f.Add([]byte(`{"type":"hanaper-release/1","programs":null,"files":{"a":{}}}`))
	f.Add(bytes.Replace(data, []byte(`"sbom/`), []byte(`"../`), 1))
	f.Add(bytes.Replace(data, []byte(`"commit"`), []byte(`"version": "v9.9.9", "commit"`), 1))
	f.Add(bytes.Replace(data, []byte(`v0.2.0`), []byte(`v0.2.0-é`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse("x", data)
		if err != nil {
			if m != nil {
				t.Error("an error, and a manifest")
			}
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%v\n%s\n%s", err, data, again)
		}
		for _, p := range m.Paths() {
			if strings.Contains(p, "..") && strings.Contains("/"+p+"/", "/../") || strings.HasPrefix(p, "/") || strings.ContainsAny(p, "\\\x00\n\r") {
				t.Errorf("%q", p)
			}
		}
		for _, c := range data {
			if c >= 0x80 || c < ' ' && c != '\n' {
				t.Errorf("%q is in a manifest", c)
			}
		}
	})
}
