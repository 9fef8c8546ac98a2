// What tests without Python demand.
#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the program where something does not hold, and says what.
#define CHECK(holds)                                                             \
    do {                                                                         \
        if (holds) break;                                                        \
        std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds); \
        std::_Exit(1);                                                           \
    } while (false)
