// Double: see README.md.
#pragma once

#include "NvInfer.h"

namespace nvonnxparser {

class IParserError {
 public:
  virtual ~IParserError() = default;
  virtual const char* desc() const = 0;
  virtual int node() const = 0;
};

class IParser {
 public:
  virtual ~IParser() = default;
  virtual bool parseFromFile(const char* path, int verbosity) = 0;
  virtual int getNbErrors() const = 0;
  virtual const IParserError* getError(int index) const = 0;
};

IParser* createParser(nvinfer1::INetworkDefinition& network, nvinfer1::ILogger& logger);

}  // namespace nvonnxparser
