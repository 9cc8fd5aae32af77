; ModuleID = "dense"
target triple = "x86_64-unknown-linux-gnu"
target datalayout = ""

define internal void @"task"(ptr noundef %".1", i64 noundef %".2", i64 noundef %".3")
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
  %".23" = getelementptr inbounds ptr, ptr %".1", i64 11
  %".24" = load ptr, ptr %".23", align 8
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
  %".39" = getelementptr inbounds i64, ptr %".1", i64 19
  %".40" = load i64, ptr %".39", align 8
  %".41" = udiv i64 %".2", %".40"
  %".42" = mul i64 %".41", %".40"
  %".43" = sub i64 %".2", %".42"
  %".44" = udiv i64 %".41", %".38"
  %".45" = mul i64 %".44", %".38"
  %".46" = sub i64 %".41", %".45"
  %".47" = udiv i64 %".44", %".36"
  %".48" = mul i64 %".47", %".36"
  %".49" = sub i64 %".44", %".48"
  %".50" = mul i64 %".46", 8
  %".51" = add i64 %".50", 8
  %".52" = icmp slt i64 %".51", %".26"
  %".53" = select  i1 %".52", i64 %".51", i64 %".26"
  %".54" = add i64 %".43", 1
  %".55" = icmp slt i64 %".54", 1
  %".56" = select  i1 %".55", i64 %".54", i64 1
  %".57" = mul i64 %".47", %".30"
  %".58" = mul i64 %".49", 5
  %".59" = add i64 %".57", %".58"
  %".60" = getelementptr inbounds float, ptr %".6", i64 %".59"
  %".61" = mul i64 %".47", %".32"
  %".62" = mul i64 %".49", 4
  %".63" = add i64 %".61", %".62"
  %".64" = mul i64 %".47", %".36"
  %".65" = add i64 %".64", %".49"
  %".66" = mul i64 %".65", 4
  br label %"loop"
loop:
  %".68" = phi  i64 [%".43", %"entry"], [%".155", %"after.1"]
  %".69" = icmp slt i64 %".68", %".56"
  br i1 %".69", label %"body", label %"after"
body:
  br label %"loop.1"
after:
  ret void
loop.1:
  %".72" = phi  i64 [%".50", %"body"], [%".153", %"after.3"]
  %".73" = icmp slt i64 %".72", %".53"
  br i1 %".73", label %"body.1", label %"after.1"
body.1:
  %".75" = sub i64 %".72", %".50"
  %".76" = mul i64 %".75", 4
  %".77" = add i64 %".49", %".68"
  %".78" = mul i64 %".77", %".34"
  br label %"loop.2"
after.1:
  %".155" = add i64 %".68", 1
  br label %"loop"
loop.2:
  %".80" = phi  i64 [0, %"body.1"], [%".136", %"body.2"]
  %".81" = phi  <4 x float> [splat (float              0x0), %"body.1"], [%".135", %"body.2"]
  %".82" = icmp slt i64 %".80", %".34"
  br i1 %".82", label %"body.2", label %"after.2"
body.2:
  %".84" = mul i64 %".80", %".28"
  %".85" = add i64 %".84", %".72"
  %".86" = getelementptr inbounds i32, ptr %".14", i64 %".85"
  %".87" = load i32, ptr %".86", align 4
  %".88" = icmp slt i32 %".87", 0
  %".89" = sext i32 %".87" to i64
  %".90" = getelementptr inbounds float, ptr %".60", i64 %".89"
  %".91" = select  i1 %".88", ptr %".8", ptr %".90"
  %".92" = add i64 %".78", %".80"
  %".93" = mul i64 %".92", 5
  %".94" = mul i64 %".93", 4
  %".95" = getelementptr inbounds float, ptr %".10", i64 %".94"
  %".96" = mul i64 0, 4
  %".97" = getelementptr inbounds float, ptr %".95", i64 %".96"
  %".98" = load <4 x float>, ptr %".97", align 4
  %".99" = getelementptr inbounds float, ptr %".91", i64 0
  %".100" = load float, ptr %".99", align 4
  %".101" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".100", i32 0
  %".102" = shufflevector <4 x float> %".101", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".103" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".102", <4 x float> %".98", <4 x float> %".81")
  %".104" = mul i64 1, 4
  %".105" = getelementptr inbounds float, ptr %".95", i64 %".104"
  %".106" = load <4 x float>, ptr %".105", align 4
  %".107" = getelementptr inbounds float, ptr %".91", i64 1
  %".108" = load float, ptr %".107", align 4
  %".109" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".108", i32 0
  %".110" = shufflevector <4 x float> %".109", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".111" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".110", <4 x float> %".106", <4 x float> %".103")
  %".112" = mul i64 2, 4
  %".113" = getelementptr inbounds float, ptr %".95", i64 %".112"
  %".114" = load <4 x float>, ptr %".113", align 4
  %".115" = getelementptr inbounds float, ptr %".91", i64 2
  %".116" = load float, ptr %".115", align 4
  %".117" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".116", i32 0
  %".118" = shufflevector <4 x float> %".117", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".119" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".118", <4 x float> %".114", <4 x float> %".111")
  %".120" = mul i64 3, 4
  %".121" = getelementptr inbounds float, ptr %".95", i64 %".120"
  %".122" = load <4 x float>, ptr %".121", align 4
  %".123" = getelementptr inbounds float, ptr %".91", i64 3
  %".124" = load float, ptr %".123", align 4
  %".125" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".124", i32 0
  %".126" = shufflevector <4 x float> %".125", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".127" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".126", <4 x float> %".122", <4 x float> %".119")
  %".128" = mul i64 4, 4
  %".129" = getelementptr inbounds float, ptr %".95", i64 %".128"
  %".130" = load <4 x float>, ptr %".129", align 4
  %".131" = getelementptr inbounds float, ptr %".91", i64 4
  %".132" = load float, ptr %".131", align 4
  %".133" = insertelement <4 x float> <float undef, float undef, float undef, float undef>, float %".132", i32 0
  %".134" = shufflevector <4 x float> %".133", <4 x float> <float undef, float undef, float undef, float undef>, <4 x i32> <i32 0, i32 0, i32 0, i32 0>
  %".135" = call <4 x float> @"llvm.fmuladd.v4f32"(<4 x float> %".134", <4 x float> %".130", <4 x float> %".127")
  %".136" = add i64 %".80", 1
  br label %"loop.2"
after.2:
  %".138" = mul i64 %".68", 4
  %".139" = mul i64 %".49", 4
  %".140" = add i64 %".139", %".138"
  %".141" = icmp slt i64 %".72", %".53"
  br i1 %".141", label %"then", label %"after.3"
then:
  %".143" = udiv i64 %".72", 1
  %".144" = sub i64 %".72", %".143"
  %".145" = getelementptr inbounds i32, ptr %".16", i64 %".143"
  %".146" = load i32, ptr %".145", align 4
  %".147" = sext i32 %".146" to i64
  %".148" = add i64 %".63", %".147"
  %".149" = add i64 %".148", %".138"
  %".150" = getelementptr inbounds float, ptr %".12", i64 %".149"
  store <4 x float> %".81", ptr %".150", align 4
  br label %"after.3"
after.3:
  %".153" = add i64 %".72", 1
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
  %".7" = getelementptr inbounds ptr, ptr %".6", i64 1
  %".8" = load ptr, ptr %".7", align 8
  %".9" = getelementptr inbounds i64, ptr %".1", i64 1
  %".10" = load i64, ptr %".9", align 8
  %".11" = icmp eq i64 %".10", 1
  %".12" = ptrtoint ptr %".8" to i64
  %".13" = icmp ne i64 %".12", 0
  br i1 %".11", label %"then", label %"else"
then:
  br label %"after"
else:
  br i1 %".13", label %"then.1", label %"else.1"
after:
  %".25" = phi  i64 [0, %"then"], [%".23", %"after.1"]
  br label %"loop"
then.1:
  %".17" = call i32 %".8"()
  %".18" = sext i32 %".17" to i64
  br label %"after.1"
else.1:
  %".20" = getelementptr inbounds i64, ptr %".1", i64 2
  %".21" = atomicrmw add ptr %".20", i64 1 monotonic
  br label %"after.1"
after.1:
  %".23" = phi  i64 [%".18", %"then.1"], [%".21", %"else.1"]
  br label %"after"
loop:
  %".27" = phi  i64 [0, %"after"], [%".45", %"done"]
  %".28" = icmp slt i64 %".27", %".5"
  br i1 %".28", label %"body", label %"after.2"
body:
  %".30" = add i64 %".25", %".27"
  %".31" = icmp slt i64 %".30", %".5"
  %".32" = sub i64 %".30", %".5"
  %".33" = select  i1 %".31", i64 %".30", i64 %".32"
  %".34" = add i64 %".33", 1
  %".35" = mul i64 %".34", 8
  %".36" = getelementptr inbounds i64, ptr %".1", i64 %".35"
  %".37" = getelementptr inbounds i64, ptr %".36", i64 1
  %".38" = load i64, ptr %".37", align 8
  br label %"next"
after.2:
  ret void
next:
  %".40" = atomicrmw add ptr %".36", i64 1 monotonic
  %".41" = icmp slt i64 %".40", %".38"
  br i1 %".41", label %"work", label %"done"
work:
  call void @"task"(ptr %".3", i64 %".40", i64 %".25")
  br label %"next"
done:
  %".45" = add i64 %".27", 1
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
