// libnvrtc.cpp -- a stand-in for libnvrtc.so.12: compiles the very same .cu text as C++ with g++ and simt.h.
//
// Two steps. The preprocessor runs without simt.h, so that __global__ and __shared__ are still to be seen in its result:
// there every extern "C" kernel is found (an entry for each is added at the end) and every `extern __shared__ T name[]`
// becomes a pointer to the launch's dynamic shared memory. Then g++ compiles that with simt.h inside an unnamed
// namespace. Line numbers stay those of the .cu file. Results are kept in the stand-in's folder under a hash of all
// that went in. It is more forgiving than NVRTC where C++ is; what the real compiler thinks is NvccTest's business.
#define STANDIN_LIBRARY
#include "standin.h"
#include <cctype>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

using std::string;

extern "C" const char* standin_work();

namespace {
enum { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

struct Program {
    string name, text, log, image;
    std::vector<string> headerNames, headers;
    bool real = true;                                  // compiled for a real architecture (sm_), not for a virtual one
};

string environment(const char* name) { const char* v = getenv(name); return v ? v : ""; }

// A hash of simt.h and the flags, so that no cache mixes them up; the compiler and its flags. StandIn sets them, and says
// them to other processes in the environment.
int minorVersion = atoi(environment("STANDIN_NVRTC").c_str());
string compiler = "g++", flags = environment("STANDIN_FLAGS");
const int ARCHITECTURES[] = {80, 86, 87, 89, 90};

string read(const string& path) {
    string all;
    if (FILE* f = fopen(path.c_str(), "rb")) {
        char part[1 << 16];
        for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) all.append(part, n);
        fclose(f);
    }
    return all;
}

bool write(const string& path, const string& text) {
    FILE* f = fopen(path.c_str(), "wb");
    if (!f) return false;
    bool ok = fwrite(text.data(), 1, text.size(), f) == text.size();
    return fclose(f) == 0 && ok;
}

string hash(const string& s) {                         // 128 bits of FNV-1a
    unsigned __int128 h = (unsigned __int128) 0x6c62272e07bb0142ull << 64 | 0x62b821756295c58dull;
    for (unsigned char c : s) h = (h ^ c) * (((unsigned __int128) 1 << 88) + 0x13b);
    char text[33];
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long) (h >> 64), (unsigned long long) h);
    return text;
}

bool wordAt(const string& s, size_t at, const char* word) {
    size_t n = strlen(word);
    auto inner = [&](size_t i) { return i < s.size() && (isalnum((unsigned char) s[i]) || s[i] == '_'); };
    return s.compare(at, n, word) == 0 && !(at > 0 && inner(at - 1)) && !inner(at + n);
}

size_t skipSpace(const string& s, size_t at) {
    while (at < s.size() && isspace((unsigned char) s[at])) at++;
    return at;
}

size_t skipParentheses(const string& s, size_t at) {   // from '(' to beyond its ')'
    int depth = 0;
    for (; at < s.size(); at++) {
        if (s[at] == '(') depth++;
        if (s[at] == ')' && --depth == 0) return at + 1;
    }
    return at;
}

// For every `__global__ [__launch_bounds__(n)] void [__launch_bounds__(n)] name(` after extern "C" an entry line.
string entries(const string& s) {
    string lines;
    for (size_t at = s.find("__global__"); at != string::npos; at = s.find("__global__", at + 1)) {
        size_t start = s.find_last_of(";}", at);       // of this declaration
        string head = s.substr(start == string::npos ? 0 : start + 1, at - (start == string::npos ? 0 : start + 1));
        if (head.find("extern \"C\"") == string::npos) continue;
        string bound = std::to_string(standin::MAX_THREADS), name;
        for (size_t p = skipSpace(s, at + 10); p < s.size() && s[p] != '(';) {
            size_t end = p;
            while (end < s.size() && (isalnum((unsigned char) s[end]) || s[end] == '_')) end++;
            if (end == p) break;
            name = s.substr(p, end - p);
            p = skipSpace(s, end);
            if (name == "__launch_bounds__" && p < s.size() && s[p] == '(') {
                end = skipParentheses(s, p);
                bound = s.substr(p + 1, end - p - 2);
                p = skipSpace(s, end);
            }
        }
        lines += "SIMT_ENTRY(" + name + ", " + bound + ")\n";
    }
    return lines;
}

// `extern __shared__ [__align__(n)] T name[];` becomes `T* name = (T*) simt::dynamic;` on as many lines.
string dynamicShared(string s) {
    for (size_t at = s.find("extern"); at != string::npos; at = s.find("extern", at + 1)) {
        if (!wordAt(s, at, "extern")) continue;
        size_t p = skipSpace(s, at + 6);
        if (!wordAt(s, p, "__shared__")) continue;
        p = skipSpace(s, p + 10);
        if (wordAt(s, p, "__align__")) p = skipSpace(s, skipParentheses(s, skipSpace(s, p + 9)));
        size_t end = s.find(';', p), bracket = s.find('[', p);
        if (end == string::npos || bracket > end) continue;
        size_t last = bracket;
        while (isspace((unsigned char) s[last - 1])) last--;
        size_t first = last;
        while (isalnum((unsigned char) s[first - 1]) || s[first - 1] == '_') first--;
        string type = s.substr(p, first - p), name = s.substr(first, last - first);
        string line = type + "* " + name + " = (" + type + "*) simt::dynamic;";
        for (char c : s.substr(at, end - at)) if (c == '\n') line += '\n';
        s.replace(at, end + 1 - at, line);
    }
    return s;
}

string quoted(const string& s) {
    string q = "'";
    for (char c : s) q += c == '\'' ? string("'\\''") : string(1, c);
    return q + "'";
}

// Runs a command and appends what it says to the log; true if it ended with 0.
bool run(const string& command, string& log) {
    FILE* f = popen((command + " 2>&1").c_str(), "r");
    if (!f) return false;
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) log.append(part, n);
    return pclose(f) == 0;
}

// Takes the options that NVRTC knows and JCudaDevice or a kernel might pass; the others are errors, as there.
bool understand(Program& p, const std::vector<string>& options, string& defines) {
    for (const string& o : options) {
        auto value = [&](const char* key) -> const char* {
            size_t n = strlen(key);
            return o.compare(0, n, key) == 0 ? o.c_str() + n : nullptr;
        };
        const char* v = value("--gpu-architecture=");
        if (!v) v = value("-arch=");
        if (v) {
            p.real = !strncmp(v, "sm_", 3);
            int arch = atoi(strchr(v, '_') ? strchr(v, '_') + 1 : "0");
            bool known = false;
            for (int a : ARCHITECTURES) known |= a == arch;
            if (!known) { p.log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n"; return false; }
            defines += " -D__CUDA_ARCH__=" + std::to_string(arch * 10);
        } else if (value("-D")) defines += " " + quoted(o);
        else if (!value("--std=") && !value("-std=") && !value("--fmad=") && !value("-lineinfo") && !value("-default-device")
                 && !value("--maxrregcount=")) {
            p.log = "nvrtc: error: unrecognized option " + o + " found\n";
            return false;
        }
    }
    return true;
}

int compile(Program& p, const string& defines) {
    const string work = standin_work();
    string all = p.name + '\0' + p.text + '\0' + defines + '\0' + flags + '\0' + std::to_string(minorVersion);
    for (size_t i = 0; i < p.headers.size(); i++) all += '\0' + p.headerNames[i] + '\0' + p.headers[i];
    string stem = work + "/" + hash(all), object = stem + ".so", mine = stem + "." + std::to_string(getpid());
    if (access(object.c_str(), R_OK) != 0) {
        standin::counters[standin::COMPILES]++;
        mkdir(mine.c_str(), 0777);
        bool ok = write(mine + "/text.cu", "#line 1 \"" + p.name + "\"\n" + p.text);
        for (size_t i = 0; i < p.headers.size(); i++) ok &= write(mine + "/" + p.headerNames[i], p.headers[i]);
        ok = ok && run(compiler + " -E -x c++ -std=c++17 -w -DQAT_SIMT" + defines + " -I" + quoted(mine) + " -o "
                       + quoted(mine + "/plain.ii") + " " + quoted(mine + "/text.cu"), p.log);
        if (ok) {
            string plain = dynamicShared(read(mine + "/plain.ii"));
            string simt;                               // -DSIMT_... are for simt.h itself, which a plain -E did not see
            for (size_t at = defines.find("'-DSIMT_"); at != string::npos; at = defines.find("'-DSIMT_", at + 1))
                simt += " " + defines.substr(at, defines.find('\'', at + 1) + 1 - at);
            ok = write(mine + "/whole.cpp", "namespace {\n" + plain + "\n}\n#line 1 \"entries\"\n" + entries(plain))
                && run(compiler + " " + flags + simt + " -include " + quoted(work + "/simt.h") + " -o "
                       + quoted(mine + ".so") + " " + quoted(mine + "/whole.cpp"), p.log)
                && rename((mine + ".so").c_str(), object.c_str()) == 0;
        }
        string ignored;
        run("rm -rf " + quoted(mine), ignored);
        for (size_t at; (at = p.log.find(mine + "/")) != string::npos;) p.log.erase(at, mine.size() + 1);
        if (!ok) return COMPILATION;
    }
    if (p.real) {
        string library = read(object);
        uint64_t bytes = library.size();
        p.image = "qat-simt" + string((const char*) &bytes, 8) + library;
    } else p.image = "// simt " + object + "\n";
    return SUCCESS;
}
}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API int nvrtcVersion(int* major, int* minor) { *major = 12, *minor = minorVersion; return SUCCESS; }

API int nvrtcGetNumSupportedArchs(int* n) { *n = sizeof ARCHITECTURES / sizeof *ARCHITECTURES; return SUCCESS; }
API int nvrtcGetSupportedArchs(int* list) { memcpy(list, ARCHITECTURES, sizeof ARCHITECTURES); return SUCCESS; }

API int nvrtcCreateProgram(Program** p, const char* text, const char* name, int n, const char* const* headers,
                           const char* const* names) {
    *p = new Program{name ? name : "default_program", text, {}, {}, {}, {}};
    for (int i = 0; i < n; i++) {
        (*p)->headers.push_back(headers[i]);
        (*p)->headerNames.push_back(names[i]);
    }
    return SUCCESS;
}

API int nvrtcDestroyProgram(Program** p) { delete *p; *p = nullptr; return SUCCESS; }

API int nvrtcCompileProgram(Program* p, int n, const char* const* options) {
    string defines;
    if (!understand(*p, std::vector<string>(options, options + n), defines)) return INVALID_OPTION;
    return compile(*p, defines);
}

API int nvrtcGetProgramLogSize(Program* p, size_t* n) { *n = p->log.size() + 1; return SUCCESS; }
API int nvrtcGetProgramLog(Program* p, char* log) { memcpy(log, p->log.c_str(), p->log.size() + 1); return SUCCESS; }
API int nvrtcGetCUBINSize(Program* p, size_t* n) { *n = p->real ? p->image.size() : 0; return SUCCESS; }
API int nvrtcGetCUBIN(Program* p, char* to) { memcpy(to, p->image.data(), p->image.size()); return SUCCESS; }
API int nvrtcGetPTXSize(Program* p, size_t* n) { *n = p->image.size() + 1; return SUCCESS; }
API int nvrtcGetPTX(Program* p, char* to) { memcpy(to, p->image.c_str(), p->image.size() + 1); return SUCCESS; }

API const char* nvrtcGetErrorString(int code) {
    switch (code) {
        case SUCCESS: return "NVRTC_SUCCESS";
        case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
        case COMPILATION: return "NVRTC_ERROR_COMPILATION";
        default: return "NVRTC_ERROR";
    }
}

API void standin_nvrtc(int minor, const char* cxx, const char* cxxflags) {
    minorVersion = minor;
    compiler = cxx;
    flags = cxxflags;
}
