// Command sbomjudge holds SBOMs to the rules of CycloneDX 1.6, with the schema and the reader of the CycloneDX project and a JSON Schema validator of
// another maker, and to the program that each is of: sbomjudge SCHEMAS SBOM PROGRAM [SBOM PROGRAM]... It is a module of its own: nothing of it is
// linked to Hanaper. packaging/judge-sboms runs it.
package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	if len(os.Args) < 4 || len(os.Args)%2 != 0 {
		fmt.Fprintln(os.Stderr, "usage: sbomjudge SCHEMAS SBOM PROGRAM [SBOM PROGRAM]...")
		os.Exit(2)
	}
	schema, err := compile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbomjudge:", err)
		os.Exit(1)
	}
	bad := false
	for i := 2; i < len(os.Args); i += 2 {
		if err := judge(schema, os.Args[i], os.Args[i+1]); err != nil {
			bad = true
			fmt.Fprintf(os.Stderr, "sbomjudge: %s: %v\n", os.Args[i], err)
		}
	}
	if bad {
		os.Exit(1)
	}
}

// compile reads the schema, and those that it refers to, from a folder: nothing is fetched.
func compile(dir string) (*jsonschema.Schema, error) {
	const base = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for id, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := c.AddResource(base+id, doc); err != nil {
			return nil, err
		}
	}
	return c.Compile(base + "bom-1.6.schema.json")
}

func judge(schema *jsonschema.Schema, path, program string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if err := schema.Validate(doc); err != nil {
		return err
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(io.Reader(bytes.NewReader(data)), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return err
	}
	if bom.BOMFormat != cdx.BOMFormat || bom.SpecVersion != cdx.SpecVersion1_6 {
		return fmt.Errorf("it is %s %s, want CycloneDX 1.6", bom.BOMFormat, bom.SpecVersion)
	}
	return lists(bom, program)
}

// lists asks that the SBOM names every module that the program says it was linked from, and no other.
func lists(bom cdx.BOM, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	want := map[string]bool{"std@" + strings.TrimPrefix(info.GoVersion, "go"): true}
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		want[m.Path+"@"+m.Version] = true
	}
	var more []string
	if bom.Components != nil {
		for _, c := range *bom.Components {
			name := c.Name + "@" + strings.TrimPrefix(c.Version, "go")
			if !want[name] {
				more = append(more, name)
			}
			delete(want, name)
		}
	}
	if len(want) > 0 || len(more) > 0 {
		return fmt.Errorf("it lacks %v of %s, and has %v besides", keys(want), program, more)
	}
	return nil
}

func keys(m map[string]bool) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}
