; ModuleID = "dense"
target triple = "x86_64-unknown-linux-gnu"
target datalayout = ""

define void @"task"(ptr noundef %".1", i64 noundef %".2", i64 noundef %".3") noinline
{
entry:
  %".5" = getelementptr inbounds ptr, ptr %".1", i64 2
  %".6" = load ptr, ptr %".5", align 8
  %".7" = getelementptr inbounds ptr, ptr %".1", i64 3
  %".8" = load ptr, ptr %".7", align 8
  %".9" = getelementptr inbounds ptr, ptr %".1", i64 4
  %".10" = load ptr, ptr %".9", align 8
  %".11" = getelementptr inbounds ptr, ptr %".1", i64 5
  %".12" = load ptr, ptr %".11", align 8
  %".13" = getelementptr inbounds ptr, ptr %".1", i64 6
  %".14" = load ptr, ptr %".13", align 8
  %".15" = getelementptr inbounds ptr, ptr %".1", i64 7
  %".16" = load ptr, ptr %".15", align 8
  %".17" = getelementptr inbounds ptr, ptr %".1", i64 8
  %".18" = load ptr, ptr %".17", align 8
  %".19" = getelementptr inbounds ptr, ptr %".1", i64 9
  %".20" = load ptr, ptr %".19", align 8
  %".21" = getelementptr inbounds ptr, ptr %".1", i64 10
  %".22" = load ptr, ptr %".21", align 8
  %".23" = getelementptr inbounds i64, ptr %".1", i64 11
  %".24" = load i64, ptr %".23", align 8
  %".25" = getelementptr inbounds i64, ptr %".1", i64 12
  %".26" = load i64, ptr %".25", align 8
  %".27" = getelementptr inbounds i64, ptr %".1", i64 13
  %".28" = load i64, ptr %".27", align 8
  %".29" = getelementptr inbounds i64, ptr %".1", i64 14
  %".30" = load i64, ptr %".29", align 8
  %".31" = getelementptr inbounds i64, ptr %".1", i64 15
  %".32" = load i64, ptr %".31", align 8
  %".33" = getelementptr inbounds i64, ptr %".1", i64 16
  %".34" = load i64, ptr %".33", align 8
  %".35" = getelementptr inbounds i64, ptr %".1", i64 17
  %".36" = load i64, ptr %".35", align 8
  %".37" = getelementptr inbounds i64, ptr %".1", i64 18
  %".38" = load i64, ptr %".37", align 8
  %".39" = udiv i64 %".2", %".38"
  %".40" = mul i64 %".39", %".38"
  %".41" = sub i64 %".2", %".40"
  %".42" = udiv i64 %".39", %".36"
  %".43" = mul i64 %".42", %".36"
  %".44" = sub i64 %".39", %".43"
  %".45" = udiv i64 %".42", %".34"
  %".46" = mul i64 %".45", %".34"
  %".47" = sub i64 %".42", %".46"
  %".48" = mul i64 %".44", 8
  %".49" = add i64 %".48", 8
  %".50" = icmp slt i64 %".49", %".24"
  %".51" = select  i1 %".50", i64 %".49", i64 %".24"
  %".52" = add i64 %".41", 1
  %".53" = icmp slt i64 %".52", 1
  %".54" = select  i1 %".53", i64 %".52", i64 1
  %".55" = mul i64 %".45", %".28"
  %".56" = mul i64 %".47", 5
  %".57" = add i64 %".55", %".56"
  %".58" = getelementptr inbounds float, ptr %".6", i64 %".57"
  %".59" = mul i64 %".45", %".30"
  %".60" = mul i64 %".47", 4
  %".61" = add i64 %".59", %".60"
  %".62" = mul i64 %".45", %".34"
  %".63" = add i64 %".62", %".47"
  %".64" = mul i64 %".63", 4
  br label %"loop"
loop:
  %".66" = phi  i64 [%".41", %"entry"], [%".153", %"after.1"]
  %".67" = icmp slt i64 %".66", %".54"
  br i1 %".67", label %"body", label %"after"
body:
  br label %"loop.1"
after:
  ret void
loop.1:
  %".70" = phi  i64 [%".48", %"body"], [%".151", %"after.3"]
  %".71" = icmp slt i64 %".70", %".51"
  br i1 %".71", label %"body.1", label %"after.1"
body.1:
  %".73" = sub i64 %".70", %".48"
  %".74" = mul i64 %".73", 4
  %".75" = add i64 %".47", %".66"
  %".76" = mul i64 %".75", %".32"
  br label %"loop.2"
after.1:
  %".153" = add i64 %".66", 1
  br label %"loop"
loop.2:
  %".78" = phi  i64 [0, %"body.1"], [%".134", %"body.2"]
  %".79" = phi  <4 x float> [splat (float              0x0), %"body.1"], [%".133", %"body.2"]
  %".80" = icmp slt i64 %".78", %".32"
  br i1 %".80", label %"body.2", label %"after.2"
body.2:
  %".82" = mul i64 %".78", %".26"
  %".83" = add i64 %".82", %".70"
  %".84" = getelementptr inbounds i32, ptr %".14", i64 %".83"
  %".85" = load i32, ptr %".84", align 4
  %".86" = icmp slt i32 %".85", 0
  %".87" = sext i32 %".85" to i64
  %".88" = getelementptr inbounds float, ptr %".58", i64 %".87"
  %".89" = select  i1 %".86", ptr %".8", ptr %".88"
  %".90" = add i64 %".76", %".78"
  %".91" = mul i64 %".90", 5
  %".92" = mul i64 %".91", 4
  %".93" = getelementptr inbounds float, ptr %".10", i64 %".92"
  %".94" = mul i64 0, 4
  %".95" = getelementptr inbounds float, ptr %".93", i64 %".94"
  %".96" = load <4 x float>, ptr %".95", align 4
  %".97" = getelementptr inbounds float, ptr %".89", i64 0
  %".98" = load float, ptr %".97", align 4
  %".99" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".98", i32 0
  %".100" = shufflevector <4 x float> %".99", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".101" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".100", <4 x float> %".96", <4 x float> %".79")
  %".102" = mul i64 1, 4
  %".103" = getelementptr inbounds float, ptr %".93", i64 %".102"
  %".104" = load <4 x float>, ptr %".103", align 4
  %".105" = getelementptr inbounds float, ptr %".89", i64 1
  %".106" = load float, ptr %".105", align 4
  %".107" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".106", i32 0
  %".108" = shufflevector <4 x float> %".107", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".109" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".108", <4 x float> %".104", <4 x float> %".101")
  %".110" = mul i64 2, 4
  %".111" = getelementptr inbounds float, ptr %".93", i64 %".110"
  %".112" = load <4 x float>, ptr %".111", align 4
  %".113" = getelementptr inbounds float, ptr %".89", i64 2
  %".114" = load float, ptr %".113", align 4
  %".115" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".114", i32 0
  %".116" = shufflevector <4 x float> %".115", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".117" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".116", <4 x float> %".112", <4 x float> %".109")
  %".118" = mul i64 3, 4
  %".119" = getelementptr inbounds float, ptr %".93", i64 %".118"
  %".120" = load <4 x float>, ptr %".119", align 4
  %".121" = getelementptr inbounds float, ptr %".89", i64 3
  %".122" = load float, ptr %".121", align 4
  %".123" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".122", i32 0
  %".124" = shufflevector <4 x float> %".123", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".125" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".124", <4 x float> %".120", <4 x float> %".117")
  %".126" = mul i64 4, 4
  %".127" = getelementptr inbounds float, ptr %".93", i64 %".126"
  %".128" = load <4 x float>, ptr %".127", align 4
  %".129" = getelementptr inbounds float, ptr %".89", i64 4
  %".130" = load float, ptr %".129", align 4
  %".131" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".130", i32 0
  %".132" = shufflevector <4 x float> %".131", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".133" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".132", <4 x float> %".128", <4 x float> %".125")
  %".134" = add i64 %".78", 1
  br label %"loop.2"
after.2:
  %".136" = mul i64 %".66", 4
  %".137" = mul i64 %".47", 4
  %".138" = add i64 %".137", %".136"
  %".139" = icmp slt i64 %".70", %".51"
  br i1 %".139", label %"then", label %"after.3"
then:
  %".141" = udiv i64 %".70", 1
  %".142" = sub i64 %".70", %".141"
  %".143" = getelementptr inbounds i32, ptr %".16", i64 %".141"
  %".144" = load i32, ptr %".143", align 4
  %".145" = sext i32 %".144" to i64
  %".146" = add i64 %".61", %".145"
  %".147" = add i64 %".146", %".136"
  %".148" = getelementptr inbounds float, ptr %".12", i64 %".147"
  store <4 x float> %".79", ptr %".148", align 4
  br label %"after.3"
after.3:
  %".151" = add i64 %".70", 1
  br label %"loop.1"
}

declare <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".1", <4 x float> %".2", <4 x float> %".3")

define void @"share"(ptr %".1")
{
entry:
  %".3" = load ptr, ptr %".1", align 8
  %".4" = getelementptr inbounds i64, ptr %".1", i64 1
  %".5" = load i64, ptr %".4", align 8
  %".6" = load ptr, ptr %".3", align 8
  %".7" = getelementptr inbounds i64, ptr %".1", i64 2
  %".8" = getelementptr inbounds ptr, ptr %".6", i64 1
  %".9" = load ptr, ptr %".8", align 8
  %".10" = icmp eq i64 %".5", 1
  %".11" = ptrtoint ptr %".9" to i64
  %".12" = icmp ne i64 %".11", 0
  br i1 %".10", label %"then", label %"else"
then:
  br label %"after"
else:
  br i1 %".12", label %"then.1", label %"else.1"
after:
  %".23" = phi  i64 [0, %"then"], [%".21", %"after.1"]
  br label %"loop"
then.1:
  %".16" = call i32 %".9"()
  %".17" = sext i32 %".16" to i64
  br label %"after.1"
else.1:
  %".19" = atomicrmw add ptr %".7", i64 1 monotonic
  br label %"after.1"
after.1:
  %".21" = phi  i64 [%".17", %"then.1"], [%".19", %"else.1"]
  br label %"after"
loop:
  %".25" = phi  i64 [0, %"after"], [%".43", %"done"]
  %".26" = icmp slt i64 %".25", %".5"
  br i1 %".26", label %"body", label %"after.2"
body:
  %".28" = add i64 %".23", %".25"
  %".29" = icmp slt i64 %".28", %".5"
  %".30" = sub i64 %".28", %".5"
  %".31" = select  i1 %".29", i64 %".28", i64 %".30"
  %".32" = add i64 %".31", 1
  %".33" = mul i64 %".32", 8
  %".34" = getelementptr inbounds i64, ptr %".1", i64 %".33"
  %".35" = getelementptr inbounds i64, ptr %".34", i64 1
  %".36" = load i64, ptr %".35", align 8
  br label %"next"
after.2:
  ret void
next:
  %".38" = atomicrmw add ptr %".34", i64 1 monotonic
  %".39" = icmp slt i64 %".38", %".36"
  br i1 %".39", label %"work", label %"done"
work:
  call void @"task"(ptr %".3", i64 %".38", i64 %".23")
  br label %"next"
done:
  %".43" = add i64 %".25", 1
  br label %"loop"
}

define void @"run"(ptr %".1", i64 %".2")
{
entry:
  %".4" = icmp sgt i64 %".2", 1
  %".5" = select  i1 %".4", i64 %".2", i64 1
  %".6" = add i64 %".5", 1
  %".7" = mul i64 %".6", 8
  %".8" = alloca i64, i64 %".7", align 64
  store ptr %".1", ptr %".8", align 8
  %".10" = getelementptr inbounds i64, ptr %".8", i64 1
  store i64 %".5", ptr %".10", align 8
  %".12" = getelementptr inbounds i64, ptr %".8", i64 2
  store i64 0, ptr %".12", align 8
  %".14" = getelementptr inbounds i64, ptr %".1", i64 1
  %".15" = load i64, ptr %".14", align 8
  br label %"loop"
loop:
  %".17" = phi  i64 [0, %"entry"], [%".32", %"body"]
  %".18" = phi  i64 [0, %"entry"], [%".23", %"body"]
  %".19" = icmp slt i64 %".17", %".5"
  br i1 %".19", label %"body", label %"after"
body:
  %".21" = add i64 %".17", 1
  %".22" = mul i64 %".15", %".21"
  %".23" = udiv i64 %".22", %".5"
  %".24" = mul i64 %".23", %".5"
  %".25" = sub i64 %".22", %".24"
  %".26" = add i64 %".17", 1
  %".27" = mul i64 %".26", 8
  %".28" = getelementptr inbounds i64, ptr %".8", i64 %".27"
  store i64 %".18", ptr %".28", align 8
  %".30" = getelementptr inbounds i64, ptr %".28", i64 1
  store i64 %".23", ptr %".30", align 8
  %".32" = add i64 %".17", 1
  br label %"loop"
after:
  %".34" = icmp eq i64 %".5", 1
  br i1 %".34", label %"then", label %"else"
then:
  call void @"share"(ptr %".8")
  br label %"after.1"
else:
  %".38" = load ptr, ptr %".1", align 8
  %".39" = load ptr, ptr %".38", align 8
  %".40" = trunc i64 %".5" to i32
  call void %".39"(ptr @"share", ptr %".8", i32 %".40", i32 0)
  br label %"after.1"
after.1:
  ret void
}
